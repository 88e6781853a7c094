"""A detector as one graph: images of bytes in, a fixed number of detections an image out."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcenter.batched.boxes import boxes_at
from detcenter.export.suppression import Suppression, suppressed
from detcenter.models.attached import Attached
from detcenter.models.candidates import Thought

Size = tuple[int, int]  # height and width
Scorer = Callable[[Tensor, Tensor], Tensor]


class Candidates(NamedTuple):
    """What may be detected: K boxes an image and L labels of each, or K boxes of each label."""

    boxes: Tensor
    """[N, K, 4] or [N, L, K, 4], inside their images"""
    scores: Tensor
    """[N, L, K]; -inf for what is no candidate"""
    first_label: int
    """of the L"""
    score_threshold: float
    iou_threshold: float
    limit: int
    """detections an image"""


class Seen(Protocol):
    """What a detector makes of a batch, step by step; each is called once at most, in this order.

    Detectors without proposals have ``all_boxes`` too: boxes [N, A, 4] before any is dropped, and
    their scores [N, A, C] by label.
    """

    def candidates(self) -> Candidates: ...

    def features(self, boxes: Tensor) -> Tensor:
        """Of boxes [N, M, 4], as :func:`detcenter.box_features` has them, [N M, D]."""

    def logits(self) -> Tensor:
        """Of the same boxes, as :func:`detcenter.box_logits` has them, [N M, C]."""


class DetectorGraph(nn.Module):
    """What is exported.

    Args:
        model: a detector, in eval mode, whose ``transform`` is read.
        eye: which looks with it at a batch [N, 3, H, W] as the backbone takes it, whose images end
            at their ``corners`` [N or 1, 1, 4] (width, height, width, height), and returns what
            it has :class:`Seen`.
        size: of the images.
        sized: whether images may be smaller than ``size``; then it is called with their sizes too.
        suppress: how boxes are dropped for better ones, or None for all boxes as they are.
        features: whether each detection's features are given.
        scorer: which scores how little a detection looks like any class, of its features and
            logits; only with ``features``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Any,
        eye: nn.Module,
        size: Size,
        sized: bool,
        suppress: Suppression | None = suppressed,
        features: bool = False,
        scorer: Scorer | None = None,
    ) -> None:
        super().__init__()
        self.eye = eye
        self.size = size
        self.sized = sized
        self.suppress = suppress
        self.features = features
        self.scorer = scorer
        transform = model.transform
        below, right = (-side % transform.size_divisible for side in size)
        self.padding = (0, right, 0, below)
        for name, values in (("mean", transform.image_mean), ("std", transform.image_std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def outputs(self) -> list[str]:
        """The names of what is returned."""
        if self.suppress is None:
            return ["boxes", "scores"]
        more = (["features"] if self.features else []) + (
            ["unknown_scores"] if self.scorer is not None else []
        )
        return ["boxes", "scores", "labels", *more]

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """
        Args:
            images: uint8 [N, 3, H, W], RGB.
            sizes: int64 [N, 2], height and width of each image, which lies in the upper left
                corner; what is beyond it is not looked at.

        Returns:
            For each image its best detections, the highest score first: boxes [N, M, 4] (xyxy in
            pixels), scores [N, M] and labels int64 [N, M], behind the last detection zeros; and
            their features [N, M, D] and unknown scores [N, M]. Without suppression all boxes
            [N, A, 4] and their scores [N, A, C] by label.
        """
        batch, corners = self._prepared(images, sizes)
        seen: Any = self.eye(batch, corners)
        if self.suppress is None:
            boxes, scores = seen.all_boxes()
            return boxes, scores
        boxes, scores, labels, there = picked(seen.candidates(), self.suppress)
        return boxes, scores, labels, *self._described(seen, boxes, there)

    def _prepared(self, images: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        """As the model's transform does, which pads images with zeros after it normalized them."""
        height, width = self.size
        batch = (images.to(torch.float32) / 255 - self.mean) / self.std
        if sizes is None:
            corners = batch.new_tensor([[[width, height] * 2]])
        else:
            rows = torch.arange(height, device=batch.device) < sizes[:, :1]
            columns = torch.arange(width, device=batch.device) < sizes[:, 1:]
            batch = batch * (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
            corners = sizes.flip(1).repeat(1, 2).to(batch.dtype).unsqueeze(1)
        return F.pad(batch, self.padding), corners

    def _described(self, seen: Seen, boxes: Tensor, there: Tensor) -> list[Tensor]:
        if not self.features:
            return []
        features = seen.features(boxes)
        found = [features.unflatten(0, there.shape).where(there.unsqueeze(2), 0.0)]
        if self.scorer is not None:
            scores = self.scorer(features, seen.logits()).unflatten(0, there.shape)
            found.append(scores.where(there, 0.0))
        return found


def picked(found: Candidates, suppress: Suppression) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes [N, M, 4], scores and labels [N, M] of the best that are kept, the highest score
    first, and which of them there are, [N, M]; the others are zeros.
    """
    boxes, scores = found.boxes, found.scores
    labels, count = map(int, scores.shape[1:])
    limit = min(found.limit, labels * count)
    if boxes.dim() == 4:  # each label is suppressed like an image of its own
        boxes, scores = boxes.flatten(0, 1), scores.flatten(0, 1).unsqueeze(1)
    kept = suppress(boxes, scores, found.iou_threshold, found.score_threshold, limit)
    best, at = kept.reshape(-1, labels * count).topk(limit)
    label = at // count + found.first_label
    if found.first_label == 0:  # what is taken for the background counts for the limit only
        best, order = best.where(label > 0, -torch.inf).topk(limit)
        at, label = at.gather(1, order), label.gather(1, order)
    there = best > -torch.inf
    if found.boxes.dim() == 4:
        boxes, box = found.boxes.flatten(1, 2), at
    else:
        box = at % count
    chosen = boxes_at(boxes, box).where(there.unsqueeze(2), 0.0)
    return chosen, best.where(there, 0.0), label.where(there, 0), there


def thoughts_of(model: Any) -> list[Thought]:
    """What changes its logits: its vote, and the classes that are enrolled."""
    return model._thoughts() if isinstance(model, Attached) else []


def inside(boxes: Tensor, corners: Tensor) -> Tensor:
    """Boxes [N, K, 4] cut at the edges of their images, of ``corners`` [N or 1, 1, 4]."""
    return torch.minimum(boxes.clamp(min=0), corners)
