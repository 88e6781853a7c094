"""The anchors and proposals that an R-CNN learns from, drawn for a batch without waiting.

On CUDA only: a CPU does not wait, and torchvision's own way costs less there. So a seeded run on
a CPU has the numbers that it has without this; on CUDA the same seed draws other samples, of the
same distribution.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detcenter.batched.lent import Batched
from detcenter.batched.ragged import padded, without_padding


class Sampling(Batched):
    """Lent to a ``BalancedPositiveNegativeSampler``."""

    batch_size_per_image: int
    positive_fraction: float

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        if matched_idxs[0].is_cpu:
            return super().__call__(matched_idxs)  # type: ignore[misc, no-any-return]
        labels = padded(matched_idxs, -1)
        # In float64 no two keys are equal.
        keys = torch.rand(labels.shape, dtype=torch.float64, device=labels.device)
        most = int(self.batch_size_per_image * self.positive_fraction)
        drawn = balanced(labels, keys, self.batch_size_per_image, most)
        counts = [len(of_image) for of_image in matched_idxs]
        positive, negative = (without_padding(masks.byte(), counts) for masks in drawn)
        return positive, negative


class RPNSampling(Batched):
    """Lent to a region proposal network."""

    def compute_loss(
        self: Any,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        outputs, targets = (objectness, pred_bbox_deltas), (labels, regression_targets)
        if objectness.is_cpu:
            return super().compute_loss(*outputs, *targets)  # type: ignore[misc, no-any-return]
        positive, negative = (torch.cat(list(x)).bool() for x in self.fg_bg_sampler(labels))
        return rpn_losses(
            *outputs, torch.cat(labels), torch.cat(list(regression_targets)), positive, negative
        )


class RoISampling(Batched):
    """Lent to the heads of an R-CNN."""

    def subsample(self: Any, labels: list[Tensor]) -> list[Tensor]:
        if labels[0].is_cpu:
            return super().subsample(labels)  # type: ignore[misc, no-any-return]
        positive, negative = self.fg_bg_sampler(labels)
        drawn = [p | n for p, n in zip(positive, negative, strict=True)]
        return places(padded(drawn).bool())


def balanced(labels: Tensor, keys: Tensor, size: int, most: int) -> tuple[Tensor, Tensor]:
    """Draw ``size`` of each image's labels, at most ``most`` of them positive.

    Args:
        labels: [N, A], positive from 1 on, negative 0, others are not drawn.
        keys: [N, A], in 0..1, all different: of positives, and of negatives, those of the lowest
            keys are drawn. Uniform keys draw each subset of the size equally often.

    Returns:
        Which are drawn as positives and which as negatives, [N, A] each.
    """
    positive = _lowest(keys.masked_fill(labels < 1, torch.inf), most)
    missing = size - positive.sum(1, keepdim=True)
    return positive, _lowest(keys.masked_fill(labels != 0, torch.inf), size, missing)


def _lowest(keys: Tensor, most: int, counts: Tensor | None = None) -> Tensor:
    """Where the ``most`` lowest finite keys of each row are, or of these the first [N, 1]."""
    values, index = keys.topk(min(most, keys.shape[1]), largest=False)
    chosen = values < torch.inf
    if counts is not None:
        chosen &= torch.arange(values.shape[1], device=keys.device) < counts
    return torch.zeros_like(keys, dtype=torch.bool).scatter_(1, index, chosen)


def rpn_losses(
    objectness: Tensor,
    deltas: Tensor,
    labels: Tensor,
    targets: Tensor,
    positive: Tensor,
    negative: Tensor,
) -> tuple[Tensor, Tensor]:
    """The losses of a region proposal network, by masks where torchvision asks for indices.

    Args:
        objectness, labels: [A] of all images, or [A, 1].
        deltas, targets: [A, 4].
        positive, negative: [A], what was drawn.
    """
    drawn = positive | negative
    count = drawn.sum()
    # What is not drawn may be infinite: where an image has no objects, boxes have no size.
    logits = objectness.flatten().where(drawn, 0.0)
    of_objects = F.binary_cross_entropy_with_logits(
        logits, labels.where(drawn, 0.0), drawn.to(logits.dtype), reduction="sum"
    )
    deltas, targets = (x.where(positive.unsqueeze(1), 0.0) for x in (deltas, targets))
    of_boxes = F.smooth_l1_loss(deltas, targets, beta=1 / 9, reduction="sum")
    return of_objects / count, of_boxes / count


def places(drawn: Tensor) -> list[Tensor]:
    """The indices of those drawn [N, A] in each row; the host waits for their numbers, once."""
    counts = drawn.sum(1).tolist()
    position = torch.arange(drawn.shape[1], device=drawn.device).expand_as(drawn)
    found = position.masked_fill(~drawn, drawn.shape[1])
    found = found.topk(max(counts), largest=False).values
    return without_padding(found, counts)
