"""Non-maximum suppression of a whole batch, no further than the detections that are kept."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from detcenter.batched.boxes import boxes_at
from detcenter.batched.greedy import kept_of

_TURNS = 32  # of settling a block, at first
_FEW = {"cpu": 1_000, "cuda": 25_000}  # boxes that torchvision compares moved apart by class
_MANY = 1 / 16  # of all, from which on it is sooner to look at all than to gather them


class Detections(NamedTuple):
    """Boxes of one image [K, ...], or of R images [R, K, ...], the highest score first."""

    boxes: Tensor  # [K, 4]
    scores: Tensor  # [K]
    labels: Tensor  # [K]


class _Given(NamedTuple):
    """See :func:`suppressed`."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor | None
    most_per_class: int | None


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
        scores: [N, B, C] of every class a box, from label 0.
        labels: [N, B] of boxes that have one score only, C = 1.
        score_threshold: candidates have a score above it.
        iou_threshold: what overlaps more with a better box of its class is dropped.
        limit: detections an image.
        most_per_class: candidates that a class has at most in an image, its best; None is all.
    """
    if most_per_class == 0:
        limit, most_per_class = 0, None
    given = _Given(boxes, scores, labels, most_per_class)
    if labels is None and not _many(passing := scores.flatten(1) > score_threshold):
        given = _only(given, passing)
    known = _candidates(given, score_threshold)
    found: dict[int, Detections] = {}
    size, turns = 2 * limit, _TURNS
    while left := [image for image in range(len(boxes)) if image not in found]:
        size = min(size, max(known.totals[image] for image in left))
        rows = torch.tensor(left).to(boxes.device, non_blocking=True)
        best = _best(given, rows, size)
        valid = _valid(best, score_threshold, given.most_per_class)
        apart = best.boxes + (best.labels * known.gaps[rows].unsqueeze(1)).unsqueeze(2)
        keep, settled = kept_of(
            apart, best.labels, valid, known.gaps[rows] > 0, iou_threshold, limit, turns
        )
        odd = best.scores.isnan().sum(1)
        kept, seen, nans = torch.stack([keep.sum(1), valid.sum(1), odd]).where(settled, -1).tolist()
        if -1 in kept:
            turns *= 4
        elif any(nans):  # which are ranked first, and are no candidates
            numbers = given.scores.masked_fill(given.scores.isnan(), -torch.inf)
            given = given._replace(scores=numbers)
        else:
            chosen = _chosen(best, keep, limit)
            for row, image in enumerate(left):
                if kept[row] == limit or seen[row] == known.counts[image]:
                    found[image] = Detections(*(values[row, : kept[row]] for values in chosen))
            size *= 2
    return [found[image] for image in range(len(boxes))]


def few(count: Any, device: torch.device) -> Any:
    """Whether torchvision compares so many boxes at once, each class moved beyond the others."""
    return count <= _FEW.get(device.type, _FEW["cuda"])


def top_candidates(scores: Tensor, threshold: float, size: int) -> tuple[Tensor, Tensor]:
    """The ``size`` best of scores [N, M] that are above the threshold, fewer if no image has more.

    Returns:
        Their values [N, K], the highest first, with ``-inf`` behind the last; and their places.
    """
    passing = scores > threshold
    if _many(passing):
        scores = scores.masked_fill(~passing, -torch.inf)  # what is not a number would be first
        values, places = scores.topk(min(size, scores.shape[1]))
        return values, places
    return _gathered(scores, passing, size)


def _many(passing: Tensor) -> bool:
    """Whether so many pass that it is sooner to look at all than to gather those that do.

    On CUDA it always is, for the host would wait for how many there are.
    """
    return passing.is_cuda or bool(passing.count_nonzero() > _MANY * passing.numel())


def _gathered(scores: Tensor, passing: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """As :func:`top_candidates`, of those that are ``passing`` [N, M]."""
    found = passing.flatten().nonzero().squeeze(1)
    images = found // scores.shape[1]
    counts = images.bincount(minlength=len(scores))
    turn = torch.arange(len(images)) - (counts.cumsum(0) - counts)[images]
    padded = scores.new_full((len(scores), int(counts.max())), -torch.inf)
    padded = padded.index_put((images, turn), scores.flatten()[found])
    values, order = padded.topk(min(size, padded.shape[1]))
    at = torch.zeros_like(padded, dtype=torch.int64).index_put((images, turn), found)
    return values, at.gather(1, order) % scores.shape[1]


def _only(given: _Given, passing: Tensor) -> _Given:
    """Those that are ``passing`` [N, B C], each a box with one score."""
    values, places = _gathered(given.scores.flatten(1), passing, passing.shape[1])
    labels = places % given.scores.shape[2]
    if given.most_per_class is not None:
        values = values.masked_fill(_rank_in_class(labels) >= given.most_per_class, -torch.inf)
    boxes = boxes_at(given.boxes, places // given.scores.shape[2])
    return _Given(boxes, values.unsqueeze(2), labels, None)


def _candidates(given: _Given, threshold: float) -> _Candidates:
    """torchvision compares few boxes at once, each class moved beyond the others, which rounds
    them. Many it compares class by class; their gap is 0.
    """
    boxes, scores, _, most_per_class = given
    passing = scores > threshold
    of_class = passing.sum(1)
    capped = of_class if most_per_class is None else of_class.clamp(max=most_per_class)
    are_few = few(capped.sum(1), boxes.device)
    over = are_few & (capped < of_class).any(1)
    numbers = torch.stack([of_class.sum(1), capped.sum(1), are_few, over])
    totals, counts, some_few, some_over = numbers.tolist()
    if not any(some_few) or not any(totals):
        return _Candidates(totals, counts, boxes.new_zeros(len(boxes)))
    if most_per_class is not None and any(some_over):
        passing &= scores >= scores.topk(most_per_class, 1).values[:, -1:]
    other = ~passing.any(2, keepdim=True)
    largest = boxes.detach().masked_fill(other, -torch.inf).flatten(1).amax(1)
    return _Candidates(totals, counts, torch.where(are_few & largest.isfinite(), largest + 1, 0.0))


def _best(given: _Given, images: Tensor, size: int) -> Detections:
    """The ``size`` best candidates of some of the images, [R]."""
    boxes, scores, labels, _ = given
    if len(images) < len(boxes):
        boxes, scores = boxes[images], scores[images]
        labels = None if labels is None else labels[images]
    classes = scores.shape[2]
    values, index = scores.flatten(1).topk(size)
    box = index // classes
    found = index % classes if labels is None else labels.gather(1, box)
    return Detections(boxes_at(boxes, box), values, found)


def _valid(best: Detections, threshold: float, most_per_class: int | None) -> Tensor:
    """Which of the best are candidates, [R, P]."""
    valid = best.scores > threshold
    if most_per_class is not None and valid.shape[1] > most_per_class:
        valid &= _rank_in_class(best.labels) < most_per_class
    return valid


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
    return Detections(
        boxes_at(best.boxes, first), best.scores.gather(1, first), best.labels.gather(1, first)
    )
