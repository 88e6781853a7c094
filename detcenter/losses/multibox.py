"""The MultiBox loss of SSD (Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcenter.losses.processes import Processes
from detcenter.losses.steps import in_training


class MultiBoxLoss(nn.Module):
    """Softmax confidence and smooth-L1 localisation over default boxes, hard negatives mined.

    Both sums are divided by the number P of positive default boxes in the batch (section 2.2,
    eq. 1 to 3 of the paper). In each image the ``neg_to_pos_ratio`` x P_image negatives of the
    highest confidence loss count, the others do not. Values and gradients are those of
    torchvision's ``SSD.compute_loss``, also where an image has fewer negatives than are wanted
    (the ranking then runs on into the positives, which count again, as there).

    Args:
        neg_to_pos_ratio: negatives mined for every positive, from 0.
        min_negatives: a floor on the negatives mined in an image. At 0, the default and
            torchvision's way, an image without objects teaches nothing. Above 0 the confidence
            loss is divided by P + (negatives added by the floor) / neg_to_pos_ratio, so that
            background images do not outweigh the others.
        over_processes: in training divide by the numbers of all processes, so that the processes'
            losses and gradients average to those of the joined batch. Off as in torchvision, where
            a box counts for more the fewer its process has.

    Shapes:
        cls_logits [N, A, C]; bbox_regression [N, A, 4]; labels [N, A], the class of each default
        box, 0 for background; regression_targets [N, A, 4], the encoded boxes that the positives
        should predict, any finite numbers elsewhere; matched [N, A], which default boxes are
        positives, None for those with a label. (A box that is matched with an object of label 0
        learns its place and is background otherwise.) Returns the scalars ``bbox_regression`` and
        ``classification``. No shape depends on how many positives there are, so that nothing
        waits for the device and the loss compiles to one graph.

    Raises:
        ValueError: if these shapes do not fit each other.
    """

    positives: Tensor
    """P of the last call in training, in all processes if the losses are over them"""

    def __init__(
        self,
        neg_to_pos_ratio: float = 3.0,
        min_negatives: int = 0,
        over_processes: bool = False,
    ) -> None:
        super().__init__()
        self.neg_to_pos_ratio = neg_to_pos_ratio
        self.min_negatives = min_negatives
        self.over_processes = over_processes
        self.processes = Processes()
        self.register_buffer("positives", torch.zeros((), dtype=torch.int64), persistent=False)
        self.check()

    def check(self) -> None:
        """Raise ValueError for numbers out of their range."""
        ratio, floor = self.neg_to_pos_ratio, self.min_negatives
        if ratio < 0 or floor < 0 or (floor and not ratio):
            raise ValueError(
                "neg_to_pos_ratio and min_negatives are at least 0, and with a floor the ratio is "
                f"above 0, not {ratio} and {floor}"
            )

    def forward(
        self,
        cls_logits: Tensor,
        bbox_regression: Tensor,
        labels: Tensor,
        regression_targets: Tensor,
        matched: Tensor | None = None,
    ) -> dict[str, Tensor]:
        self.check()
        matched = labels > 0 if matched is None else matched
        shapes = cls_logits.shape[:2], bbox_regression.shape[:2], labels.shape, matched.shape
        if len(set(shapes)) > 1 or bbox_regression.shape != regression_targets.shape:
            raise ValueError(
                "cls_logits [N, A, C], bbox_regression [N, A, 4], labels [N, A], "
                "regression_targets [N, A, 4] and matched [N, A] do not fit: "
                f"{list(cls_logits.shape)}, {list(bbox_regression.shape)}, {list(labels.shape)}, "
                f"{list(regression_targets.shape)}, {list(matched.shape)}"
            )
        together = self.over_processes and in_training(self)
        count = self.processes.sum(matched.sum()) if together else matched.sum()
        if in_training(self):
            self.positives.copy_(count)
        return multibox_loss(
            cls_logits,
            bbox_regression,
            labels,
            regression_targets,
            matched,
            self.neg_to_pos_ratio,
            self.min_negatives,
            count,
            self.processes if together else None,
        )


def multibox_loss(
    cls_logits: Tensor,
    bbox_regression: Tensor,
    labels: Tensor,
    regression_targets: Tensor,
    matched: Tensor,
    neg_to_pos_ratio: float = 3.0,
    min_negatives: int = 0,
    count: Tensor | None = None,
    processes: Processes | None = None,
) -> dict[str, Tensor]:
    """What :class:`MultiBoxLoss` returns, as a function.

    Args:
        count: P, if it is known already.
        processes: over which the losses are means, P being theirs.
    """
    count = matched.sum() if count is None else count
    loss = _every_loss(cls_logits, labels)
    foreground = labels > 0
    wanted = neg_to_pos_ratio * foreground.sum(1, keepdim=True)
    added = wanted.new_zeros(())
    if min_negatives:
        floored = wanted.clamp(min=min_negatives)
        added = (floored - wanted).sum() / neg_to_pos_ratio
        added = added if processes is None else processes.sum(added)
        wanted = floored
    counted = foreground.to(loss.dtype) + _mined(loss.detach(), foreground, wanted)
    share = 1 if processes is None else processes.count()
    boxes = _box_loss(bbox_regression, regression_targets, matched)
    confidence = _counted_loss(loss, counted, cls_logits, labels)
    return {
        "bbox_regression": _over(boxes, count, share),
        "classification": _over(confidence, count + added, share),
    }


def looking_is_free(values: Tensor) -> bool:
    """Whether to look at numbers waits for no device and breaks no graph.

    Then what does not count need not be computed; elsewhere it is cheaper to compute it all.
    """
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _every_loss(cls_logits: Tensor, labels: Tensor) -> Tensor:
    """The confidence loss of each box, [N, A]; where looking is free without a gradient."""
    if not looking_is_free(cls_logits):
        return _cross_entropy(cls_logits.flatten(0, 1), labels.flatten()).view_as(labels)
    with torch.no_grad():  # image by image, which stays in the processor's cache
        return torch.stack([_cross_entropy(*of) for of in zip(cls_logits, labels, strict=True)])


def _counted_loss(loss: Tensor, counted: Tensor, cls_logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of the losses as often as they are ``counted`` [N, A]."""
    if looking_is_free(cls_logits):
        at = counted.nonzero(as_tuple=True)
        loss, counted = _cross_entropy(cls_logits[at], labels[at]), counted[at]
    return (loss * counted).sum()


def _box_loss(bbox_regression: Tensor, regression_targets: Tensor, matched: Tensor) -> Tensor:
    if looking_is_free(matched):
        at = matched.nonzero(as_tuple=True)
        return F.smooth_l1_loss(bbox_regression[at], regression_targets[at], reduction="sum")
    loss = F.smooth_l1_loss(bbox_regression, regression_targets, reduction="none")
    return loss.sum(2).where(matched, 0.0).sum()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels.long(), reduction="none")


def _mined(loss: Tensor, foreground: Tensor, wanted: Tensor) -> Tensor:
    """1 for the ``wanted`` [N, 1] boxes of the highest loss in each image, else 0; [N, A]."""
    loss = loss.masked_fill(foreground, -torch.inf)
    if looking_is_free(loss):
        found, alone = _not_below(loss, wanted.ceil().long().clamp(max=loss.shape[1]))
        if alone:
            return found
    order = loss.argsort(1, descending=True)  # as torchvision, which decides between equals
    rank_counts = torch.arange(loss.shape[1], device=loss.device) < wanted
    return torch.zeros_like(loss).scatter_(1, order, rank_counts.to(loss.dtype))


def _not_below(loss: Tensor, wanted: Tensor) -> tuple[Tensor, bool]:
    """1 for what is not below the ``wanted``-th highest, and whether no equals are too many."""
    most = max(1, int(wanted.max()))
    least = loss.topk(most, 1).values.gather(1, (wanted - 1).clamp(min=0))
    found = ~(loss < least) & (wanted > 0)
    return found.to(loss.dtype), torch.equal(found.sum(1, keepdim=True), wanted)


def _over(total: Tensor, count: Tensor, processes: int) -> Tensor:
    """``total`` divided so that the processes' mean is the mean over all."""
    return (total / (count.clamp(min=1) / processes)).to(total.dtype)
