"""Greedy suppression of overlapping boxes, for several images at once."""

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from detcenter.batched.boxes import pairwise_iou

_BLOCK = 256  # candidates that are compared with each other at once
_ROUNDING = 2e-6  # more than float32 can be wrong by in an IoU, as a part of it
_SAFE_SIDE = 1e-4  # pixels; of narrower boxes float64 loses too much when they are moved far


@torch.no_grad()
def kept_of(
    boxes: Tensor,
    labels: Tensor,
    valid: Tensor,
    apart: Tensor,
    iou_threshold: float,
    limit: int,
    turns: int,
) -> tuple[Tensor, Tensor]:
    """Which boxes greedy suppression keeps, and whether that has settled.

    Args:
        boxes: [R, P, 4] of R images, the best first.
        labels, valid: [R, P]; what is not valid is not there.
        apart: bool [R], whether the boxes of an image's labels are beyond each other already.
        iou_threshold: what overlaps more with a better box of its label is dropped.
        limit: boxes kept of an image, at most.
        turns: see :func:`_settle`; more if it has not settled.

    Returns:
        bool [R, P] and bool [].
    """
    if not boxes.is_cuda:
        keep = _by_kernel(boxes, labels, valid, apart, iou_threshold, limit)
        if keep is not None:
            return keep, keep.new_ones(())
    return _by_blocks(boxes, labels, valid, iou_threshold, limit, turns)


def _by_kernel(
    boxes: Tensor, labels: Tensor, valid: Tensor, apart: Tensor, iou_threshold: float, limit: int
) -> Tensor | None:
    """By torchvision's own kernel, image by image; None if that could round another way.

    Where torchvision does not move boxes apart, they are moved in float64, which rounds so little
    that what is kept both a little below and a little above the threshold is right: those that
    are kept do not overlap more, and each of the others overlaps more with one of these.
    """
    keep = torch.zeros_like(valid)
    for image, moved in enumerate(apart.tolist()):
        rows = valid[image].nonzero().squeeze(1)
        if not len(rows):
            continue
        box, label = boxes[image, rows], labels[image, rows]
        rank = torch.arange(len(rows), 0, -1, dtype=box.dtype)
        if moved:
            kept = nms(box, rank, iou_threshold)
        else:
            sides = box[:, 2:] - box[:, :2]
            if ((sides > 0) & (sides < _SAFE_SIDE)).any():
                return None
            far, rank = (
                box.double() + (label * (box.double().max() + 1)).unsqueeze(1),
                rank.double(),
            )
            margin = _ROUNDING * iou_threshold
            kept = nms(far, rank, iou_threshold - margin)
            if not torch.equal(kept, nms(far, rank, iou_threshold + margin)):
                return None
        keep[image, rows[kept[:limit]]] = True
    return keep


def _by_blocks(
    boxes: Tensor, labels: Tensor, valid: Tensor, iou_threshold: float, limit: int, turns: int
) -> tuple[Tensor, Tensor]:
    """All images at once, block after block, without waiting for a device."""
    threshold = _float32_below(iou_threshold)
    rows = len(boxes)
    # What was kept so far; what is too much goes to the last place, which has no label.
    kept_boxes = boxes.new_zeros(rows, limit + 1, 4)
    kept_labels = labels.new_full((rows, limit + 1), -1)
    count = labels.new_zeros(rows, 1)
    keeps, settled = [valid[:, :0]], valid.new_ones(())
    for start in range(0, boxes.shape[1], _BLOCK):
        box, label, free = (x[:, start : start + _BLOCK] for x in (boxes, labels, valid))
        free = free & ~_overlaps(kept_boxes, kept_labels, box, label, threshold).any(1)
        keep, done = _settle(_overlaps(box, label, box, label, threshold), free, turns)
        settled = settled & done
        place = count + keep.cumsum(1) - 1
        keep = keep & (place < limit)
        place = torch.where(keep, place, limit)
        kept_boxes.scatter_(1, place.unsqueeze(2).expand(-1, -1, 4), box)
        kept_labels.scatter_(1, place, label)
        kept_labels[:, limit] = -1
        count = count + keep.sum(1, keepdim=True)
        keeps.append(keep)
    return torch.cat(keeps, 1), settled


def _settle(overlaps: Tensor, free: Tensor, turns: int) -> tuple[Tensor, Tensor]:
    """Greedy choice among [R, B] boxes of which [R, B, B] overlap, the best first.

    A box is kept if no better one that is kept overlaps with it. Taking that as an assignment,
    everything is right after as many turns as the longest chain of overlaps is long, and stays so.
    """
    better = overlaps.triu(1)
    keep = before = free
    for _ in range(turns):
        before, keep = keep, free & ~(better & keep.unsqueeze(2)).any(1)
    return keep, (keep == before).all()


def _overlaps(
    boxes: Tensor, labels: Tensor, others: Tensor, of_others: Tensor, threshold: float
) -> Tensor:
    """Whether IoUs of boxes [R, A, 4] and others [R, B, 4] of a class are above the threshold."""
    above = pairwise_iou(boxes, others) > threshold
    return above & (labels.unsqueeze(2) == of_others.unsqueeze(1))


def _float32_below(threshold: float) -> float:
    """The largest float32 that is at most ``threshold``, above which are the same float32s."""
    nearest = np.float32(threshold)
    above = float(nearest) > threshold
    return float(np.nextafter(nearest, np.float32(-np.inf)) if above else nearest)
