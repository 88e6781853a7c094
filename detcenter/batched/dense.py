"""The losses of RetinaNet and FCOS for a batch at once; the host waits once, for the positives."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection import fcos, retinanet
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.retinanet import (
    RetinaNetClassificationHead,
    RetinaNetRegressionHead,
)
from torchvision.ops import (
    complete_box_iou_loss,
    distance_box_iou_loss,
    sigmoid_focal_loss,
)

from detcenter.batched.inputs import first_objects
from detcenter.batched.lent import Batched

_ALPHA = 0.25  # of torchvision's focal loss, whose gamma is 2
_EPS = 1e-7  # of torchvision's losses of boxes
_NO_LOGIT = -1e4  # whose sigmoid, focal loss and gradient are 0
_ROW_LOSSES = {"l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}


class RetinaNetLosses(Batched):
    """Lent to the head of a RetinaNet."""

    def compute_loss(
        self: Any,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> Any:
        of_class, of_box = self.classification_head, self.regression_head
        if not (
            retinanet.sigmoid_focal_loss is sigmoid_focal_loss
            and _is_own(of_class, RetinaNetClassificationHead)
            and _is_own(of_box, RetinaNetRegressionHead)
        ):
            return super().compute_loss(targets, head_outputs, anchors, matched_idxs)  # type: ignore[misc]
        matches = torch.stack(list(matched_idxs))
        positives = _positives(targets, anchors, matches)
        # The losses of an image are divided by the number of its positives, or by one.
        divisors = (matches >= 0).sum(1).clamp(min=1) * len(matches)
        logits = head_outputs["cls_logits"]
        ignored = matches == Matcher.BETWEEN_THRESHOLDS
        background, foreground = _focal_losses(logits, positives, ignored)
        codes = head_outputs["bbox_regression"].flatten(0, 1)[positives.at]
        of_boxes = _box_losses(of_box._loss_type, of_box.box_coder, positives, codes)
        by_positive = divisors[positives.image]
        return {
            "classification": (background / divisors).sum() + (foreground / by_positive).sum(),
            "bbox_regression": (of_boxes / by_positive).sum(),
        }


class FCOSLosses(Batched):
    """Lent to the head of an FCOS."""

    def compute_loss(
        self: Any,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> Any:
        if fcos.sigmoid_focal_loss is not sigmoid_focal_loss:
            return super().compute_loss(targets, head_outputs, anchors, matched_idxs)  # type: ignore[misc]
        positives = _positives(targets, anchors, torch.stack(list(matched_idxs)))
        background, foreground = _focal_losses(head_outputs["cls_logits"], positives)
        codes = head_outputs["bbox_regression"].flatten(0, 1)[positives.at]
        boxes = self.box_coder.decode(codes, positives.anchors)
        sides = self.box_coder.encode(positives.anchors, positives.boxes)
        of_center = head_outputs["bbox_ctrness"].flatten()[positives.at]
        losses = {
            "classification": background.sum() + foreground.sum(),
            "bbox_regression": giou_losses(boxes, positives.boxes).sum(),
            "bbox_ctrness": F.binary_cross_entropy_with_logits(
                of_center, _centerness(sides), reduction="sum"
            ),
        }
        return {name: loss / max(1, len(positives.at)) for name, loss in losses.items()}


class _Positives(NamedTuple):
    """P anchors of the batch that are matched with an object."""

    at: Tensor
    """[P], which of the N A anchors"""
    image: Tensor
    """[P], its image"""
    anchors: Tensor
    """[P, 4]"""
    labels: Tensor
    """[P], of the object"""
    boxes: Tensor
    """[P, 4], of the object"""


def _positives(
    targets: list[dict[str, Tensor]], anchors: list[Tensor], matches: Tensor
) -> _Positives:
    at = (matches >= 0).flatten().nonzero().squeeze(1)
    image = at.div(matches.shape[1], rounding_mode="floor")
    objects = matches.flatten()[at] + first_objects(targets, at.device)[image]
    labels, boxes = (torch.cat([target[key] for target in targets]) for key in ("labels", "boxes"))
    return _Positives(at, image, torch.cat(anchors)[at], labels[objects], boxes[objects])


def _focal_losses(
    logits: Tensor, positives: _Positives, ignored: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The focal loss of logits [N, A, C], by image [N] where they are to be low, and by positive
    [P] where they are to be high, at its label.

    As ``torchvision.ops.sigmoid_focal_loss``, with no tensor of targets, nor arithmetic on it.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    at = positives.at, positives.labels
    high = logits.flatten(0, 1)[at]
    nothing = logits.new_full((), _NO_LOGIT)
    low = logits.flatten(0, 1).index_put(at, nothing).view_as(logits)
    if ignored is not None:
        low = low.masked_fill(ignored.unsqueeze(2), _NO_LOGIT)
    background = (1 - _ALPHA) * (low.sigmoid().square() * F.softplus(low)).flatten(1).sum(1)
    return background, _ALPHA * (-high).sigmoid().square() * F.softplus(-high)


def _box_losses(kind: str, box_coder: Any, positives: _Positives, codes: Tensor) -> Tensor:
    """As torchvision's ``_box_loss``, of each positive [P]."""
    if kind in _ROW_LOSSES:
        wanted = box_coder.encode_single(positives.boxes, positives.anchors)
        return _ROW_LOSSES[kind](codes, wanted, reduction="none").sum(1)
    found = box_coder.decode_single(codes, positives.anchors)
    loss = {"ciou": complete_box_iou_loss, "diou": distance_box_iou_loss, "giou": giou_losses}[kind]
    losses: Tensor = loss(found, positives.boxes)
    return losses


def giou_losses(found: Tensor, wanted: Tensor) -> Tensor:
    """``torchvision.ops.generalized_box_iou_loss`` of boxes [P, 4], each with its own, [P]; which
    waits for the pairs that overlap."""
    found, wanted = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (found, wanted))
    corners = [x.unbind(1) for x in (found, wanted)]
    x1, y1, x2, y2 = (torch.maximum(*x) for x in zip(*corners, strict=True))
    u1, v1, u2, v2 = (torch.minimum(*x) for x in zip(*corners, strict=True))
    # The larger ones of the left edges and the smaller ones of the right enclose what is shared.
    shared = torch.where((u2 > x1) & (v2 > y1), (u2 - x1) * (v2 - y1), 0.0)
    union = sum((x[2] - x[0]) * (x[3] - x[1]) for x in corners) - shared
    around = (x2 - u1) * (y2 - v1)
    return 1 - shared / (union + _EPS) + (around - union) / (around + _EPS)


def _centerness(sides: Tensor) -> Tensor:
    """Of distances [P, 4] to the left, upper, right and lower edge; Eq. 3 of the FCOS paper."""
    across, down = sides[:, 0::2], sides[:, 1::2]
    return torch.sqrt((across.amin(1) / across.amax(1)) * (down.amin(1) / down.amax(1)))


def _is_own(head: Any, own: type) -> bool:
    """Whether the head computes its loss by torchvision's method."""
    found = getattr(head.compute_loss, "__func__", None)
    return found is own.compute_loss  # type: ignore[attr-defined, no-any-return]
