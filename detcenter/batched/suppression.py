"""Non-maximum suppression of a whole batch, no further than the detections that are kept."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

_BLOCK = 256  # candidates that are compared with each other at once
_TURNS = 32  # of settling a block, at first
_FEW = {"cpu": 1_000, "cuda": 25_000}  # boxes that torchvision compares moved apart by class
_MANY = 1 / 16  # of all, from which on it is sooner to look at all than to gather them
_ROUNDING = 2e-6  # more than float32 can be wrong by in an IoU, as a part of it
_SAFE_SIDE = 1e-4  # pixels; of narrower boxes float64 loses too much when they are moved far


class Detections(NamedTuple):
    """Boxes of one image [K, ...], or of R images [R, K, ...], the highest score first."""

    boxes: Tensor  # [K, 4]
    scores: Tensor  # [K]
    labels: Tensor  # [K]


class _Candidates(NamedTuple):
    """What is known of the candidates of N images."""

    totals: list[int]
    counts: list[int]  # without those that are beyond the most of their class
    gaps: Tensor  # [N], by how much torchvision moves classes apart


def suppressed(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None = None,
    *,
    score_threshold: float,
    iou_threshold: float,
    limit: int,
    most_per_class: int | None = None,
) -> list[Detections]:
    """For each image the ``limit`` best candidates that greedy suppression keeps, class by class.

    What it keeps of the best P candidates depends on these alone. So it looks at twice ``limit``
    of them first, and at more only where fewer than ``limit`` were kept.

    The results are those of ``torchvision.ops.batched_nms`` on the candidates of each image, but
    for candidates of equal scores, whose order is not defined there either. On CUDA the host waits
    for the number of candidates, and for what is kept at each look.

    Args:
        boxes: [N, B, 4], xyxy in pixels, not negative.
        scores: [N, B, C] of every class a box, from label 0; none is NaN.
        labels: [N, B] of boxes that have one score only, C = 1.
        score_threshold: candidates have a score above it.
        iou_threshold: what overlaps more with a better box of its class is dropped.
        limit: detections an image.
        most_per_class: candidates that a class has at most in an image, its best; None is all.
    """
    known = _candidates(boxes, scores, score_threshold, most_per_class)
    found: dict[int, Detections] = {}
    size, turns = 2 * limit, _TURNS
    while left := [image for image in range(len(boxes)) if image not in found]:
        size = min(size, max(known.totals[image] for image in left))
        rows = torch.tensor(left).to(boxes.device, non_blocking=True)
        best = _best(boxes, scores, labels, rows, size)
        valid = best.scores > score_threshold
        if most_per_class is not None and size > most_per_class:
            valid &= _rank_in_class(best.labels) < most_per_class
        gaps = known.gaps[rows]
        keep, settled = _greedy(best, valid, gaps, iou_threshold, limit, turns)
        kept, seen = torch.stack([keep.sum(1), valid.sum(1)]).where(settled, -1).tolist()
        if -1 in kept:
            turns *= 4
            continue
        chosen = _chosen(best, keep, limit)
        for row, image in enumerate(left):
            if kept[row] == limit or seen[row] == known.counts[image]:
                found[image] = Detections(*(values[row, : kept[row]] for values in chosen))
        size *= 2
    return [found[image] for image in range(len(boxes))]


def top_candidates(scores: Tensor, threshold: float, size: int) -> tuple[Tensor, Tensor]:
    """The ``size`` best of scores [N, M] that are above the threshold, fewer if no image has more.

    Returns:
        Their values [N, K], the highest first, with ``-inf`` behind the last; and their places.
    """
    passing = scores > threshold
    # On CUDA it is sooner to look at all than to wait for how many there are.
    if scores.is_cuda or passing.count_nonzero() > _MANY * passing.numel():
        scores = scores.masked_fill(~passing, -torch.inf)  # what is not a number would be first
        values, places = scores.topk(min(size, scores.shape[1]))
        return values, places
    found = passing.flatten().nonzero().squeeze(1)
    images = found // scores.shape[1]
    counts = images.bincount(minlength=len(scores))
    turn = torch.arange(len(images)) - (counts.cumsum(0) - counts)[images]
    padded = scores.new_full((len(scores), int(counts.max())), -torch.inf)
    padded = padded.index_put((images, turn), scores.flatten()[found])
    values, order = padded.topk(min(size, padded.shape[1]))
    at = torch.zeros_like(padded, dtype=torch.int64).index_put((images, turn), found)
    return values, at.gather(1, order) % scores.shape[1]


def _candidates(
    boxes: Tensor, scores: Tensor, threshold: float, most_per_class: int | None
) -> _Candidates:
    """torchvision compares few boxes at once, each class moved beyond the others, which rounds
    them. Many it compares class by class; their gap is 0.
    """
    passing = scores > threshold
    of_class = passing.sum(1)
    capped = of_class if most_per_class is None else of_class.clamp(max=most_per_class)
    few = capped.sum(1) <= _FEW.get(boxes.device.type, _FEW["cuda"])
    over = few & (capped < of_class).any(1)
    numbers = torch.stack([of_class.sum(1), capped.sum(1), few, over])
    totals, counts, are_few, are_over = numbers.tolist()
    if not any(are_few) or not any(totals):
        return _Candidates(totals, counts, boxes.new_zeros(len(boxes)))
    if most_per_class is not None and any(are_over):
        passing &= scores >= scores.topk(most_per_class, 1).values[:, -1:]
    other = ~passing.any(2, keepdim=True)
    largest = boxes.detach().masked_fill(other, -torch.inf).flatten(1).amax(1)
    return _Candidates(totals, counts, torch.where(few & largest.isfinite(), largest + 1, 0.0))


def _best(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, images: Tensor, size: int
) -> Detections:
    """The ``size`` best candidates of some of the images, [R]."""
    if len(images) < len(boxes):
        boxes, scores = boxes[images], scores[images]
        labels = None if labels is None else labels[images]
    classes = scores.shape[2]
    values, index = scores.flatten(1).topk(size)
    box = index // classes
    found = index % classes if labels is None else labels.gather(1, box)
    return Detections(boxes.gather(1, box.unsqueeze(2).expand(-1, -1, 4)), values, found)


def _rank_in_class(labels: Tensor) -> Tensor:
    """How many before each of [R, P] have the same label."""
    ordered, order = labels.sort(dim=1, stable=True)
    position = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    begins = torch.ones_like(labels, dtype=torch.bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = torch.where(begins, position, 0).cummax(1).values
    return torch.empty_like(labels).scatter_(1, order, position - first)


def _chosen(best: Detections, keep: Tensor, limit: int) -> Detections:
    """The first ``limit`` that are kept, and anything behind them."""
    size = keep.shape[1]
    position = torch.arange(size, device=keep.device).expand_as(keep)
    first = torch.where(keep, position, size).sort(1).values[:, :limit].clamp(max=max(size - 1, 0))
    boxes = best.boxes.gather(1, first.unsqueeze(2).expand(-1, -1, 4))
    return Detections(boxes, best.scores.gather(1, first), best.labels.gather(1, first))


@torch.no_grad()
def _greedy(
    best: Detections, valid: Tensor, gaps: Tensor, iou_threshold: float, limit: int, turns: int
) -> tuple[Tensor, Tensor]:
    """Which of [R, P] are kept, ``limit`` an image at most, and whether that has settled."""
    boxes = best.boxes + (best.labels * gaps.unsqueeze(1)).unsqueeze(2)
    if not boxes.is_cuda:
        keep = _by_kernel(boxes, best.labels, valid, gaps, iou_threshold, limit)
        if keep is not None:
            return keep, keep.new_ones(())
    return _by_blocks(boxes, best.labels, valid, iou_threshold, limit, turns)


def _by_kernel(
    boxes: Tensor, labels: Tensor, valid: Tensor, gaps: Tensor, iou_threshold: float, limit: int
) -> Tensor | None:
    """By torchvision's own kernel, image by image; None if that could round another way.

    Where torchvision does not move boxes apart, they are moved in float64, which rounds so little
    that what is kept both a little below and a little above the threshold is right: those that
    are kept do not overlap more, and each of the others overlaps more with one of these.
    """
    keep = torch.zeros_like(valid)
    for image, gap in enumerate(gaps.tolist()):
        rows = valid[image].nonzero().squeeze(1)
        if not len(rows):
            continue
        box, label = boxes[image, rows], labels[image, rows]
        rank = torch.arange(len(rows), 0, -1, dtype=box.dtype)
        if gap:
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
    """Whether boxes [R, A, 4] have an IoU above the threshold with others [R, B, 4] of their class.

    The arithmetic is that of torchvision's kernel, one operation after the other.
    """
    (x1, y1, x2, y2), areas = boxes.unsqueeze(2).unbind(3), _areas(boxes).unsqueeze(2)
    (u1, v1, u2, v2), of_other = others.unsqueeze(1).unbind(3), _areas(others).unsqueeze(1)
    width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp_(min=0)
    height = (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp_(min=0)
    shared = width.mul_(height)
    above = shared / (areas + of_other).sub_(shared) > threshold
    return above & (labels.unsqueeze(2) == of_others.unsqueeze(1))


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _float32_below(threshold: float) -> float:
    """The largest float32 that is at most ``threshold``, above which are the same float32s."""
    nearest = np.float32(threshold)
    above = float(nearest) > threshold
    return float(np.nextafter(nearest, np.float32(-np.inf)) if above else nearest)
