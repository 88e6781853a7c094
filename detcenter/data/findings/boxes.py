"""Boxes that are not what they should be, each by itself or beside another."""

from collections.abc import Iterator

import numpy as np

from detcenter.data.findings.found import Boxes, Finding, Part, boxes_of, of_boxes

_ROUNDED = 1.0  # pixel by which a box may reach out: tools round, and count from 0 or 1
_SAME = 0.9  # IoU from which on two boxes of an image are likely of one object
_MOST_COMPARED = 2000  # boxes that a box is compared with, from where it begins to the right


def box_findings(part: Part) -> Iterator[Finding | None]:
    """What is wrong with single boxes of a part."""
    boxes = boxes_of(part)
    yield from _without_area(part, boxes)
    yield from _out_of_the_image(part, boxes)
    yield from annotated_twice(part, boxes)
    yield _of_one_object(part, boxes)


def negative_sides(part: Part) -> Finding | None:
    """Boxes that end before they begin, where they are measured with and not dropped."""
    boxes = boxes_of(part)
    chosen = np.flatnonzero(_inverted(boxes))
    what = "boxes of negative width or height, which no detection can match"
    return of_boxes("inverted", "warning", what, part, boxes, chosen)


def _inverted(boxes: Boxes) -> np.ndarray:
    finite = np.isfinite(boxes.values).all(axis=1)
    return np.asarray(finite & (boxes.sides < 0).any(axis=1))


def _of_one_object(part: Part, boxes: Boxes) -> Finding | None:
    """Boxes that are several in one <object> of VOC's XML, as some tools write them."""
    siblings = [a.get("siblings", np.zeros(len(a["labels"]), bool)) for a in part.annotations]
    chosen = np.flatnonzero(np.concatenate([np.zeros(0, bool), *siblings]))
    what = "boxes that share an <object> with others; all are read"
    return of_boxes("boxes_of_one_object", "remark", what, part, boxes, chosen)


def _without_area(part: Part, boxes: Boxes) -> Iterator[Finding | None]:
    """Boxes that are dropped, and those of less than a pixel, which hardly are any."""
    finite, sides = np.isfinite(boxes.values).all(axis=1), boxes.sides
    inverted = _inverted(boxes)
    flat = finite & ~inverted & (sides == 0).any(axis=1)
    tiny = finite & (sides > 0).all(axis=1) & (sides < 1).any(axis=1)
    kinds = {
        "not_finite": (~finite, "boxes with a coordinate that is no finite number; dropped"),
        "inverted": (inverted, "boxes that end before they begin; dropped"),
        "no_area": (flat, "boxes without width or height; dropped"),
        "below_a_pixel": (tiny, "boxes narrower or lower than a pixel"),
    }
    for kind, (chosen, what) in kinds.items():
        yield of_boxes(kind, "warning", what, part, boxes, np.flatnonzero(chosen))


def _out_of_the_image(part: Part, boxes: Boxes) -> Iterator[Finding | None]:
    """Boxes that are clipped or dropped; of an image whose size is as annotated or, if that is
    missing or cannot be, as it is."""
    with np.errstate(invalid="ignore"):
        low, high = boxes.values[:, :2], boxes.values[:, 2:]
        real = np.isfinite(boxes.values).all(axis=1) & (high > low).all(axis=1)
        outside = real & ((low >= boxes.sizes) | (high <= 0)).any(axis=1)
        larger = real & ~outside & (boxes.sides > boxes.sizes + 2 * _ROUNDED).any(axis=1)
        over = ((low < -_ROUNDED) | (high > boxes.sizes + _ROUNDED)).any(axis=1)
    kinds = {
        "outside": (outside, "boxes that lie outside their image; dropped"),
        "larger_than_image": (larger, "boxes larger than their image; clipped"),
        "clipped": (
            real & ~outside & ~larger & over,
            "boxes that reach out of their image by more than a pixel; clipped",
        ),
    }
    for kind, (chosen, what) in kinds.items():
        yield of_boxes(kind, "warning", what, part, boxes, np.flatnonzero(chosen))


def annotated_twice(part: Part, boxes: Boxes) -> Iterator[Finding | None]:
    """Boxes over others of their image: copies, or nearly (an IoU above 0.9).

    Of two, the later is counted. Crowds are left out: they lie over other boxes by nature.
    """
    first, second = _overlapping(boxes)
    exact = (boxes.values[first] == boxes.values[second]).all(axis=1)
    named = boxes.labels[first] == boxes.labels[second]
    kinds = {
        "box_twice": (exact & named, "boxes that are there twice, number by number"),
        "box_almost_twice": (~exact & named, "boxes over another of their class (IoU over 0.9)"),
        "box_with_two_names": (~named, "boxes over another of a different class (IoU over 0.9)"),
    }
    for kind, (chosen, what) in kinds.items():
        # One over three others is one box too many, whatever it is to each.
        again, where = np.unique(second[chosen], return_index=True)
        yield of_boxes(kind, "warning", what, part, boxes, again, over=first[chosen][where])


def _overlapping(boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of boxes of an image with an IoU above `_SAME`, the later one second."""
    with np.errstate(over="ignore", invalid="ignore"):
        real = np.isfinite(boxes.sides).all(axis=1) & (boxes.sides > 0).all(axis=1)
    kept = np.flatnonzero(real & ~boxes.ignored)
    keys = *boxes.values[kept].T[::-1], boxes.image[kept]
    kept = kept[np.lexsort(keys)]  # by image, then from the left: copies are neighbours
    active, found = np.arange(len(kept)), [np.zeros((0, 2), np.int64)]
    for step in range(1, _MOST_COMPARED + 1):
        active = active[active + step < len(kept)]
        pairs = np.stack([kept[active], kept[active + step]], axis=1)
        near = _may_overlap(boxes, *pairs.T)
        active, pairs = active[near], pairs[near]
        if len(active) == 0:
            break
        found.append(pairs[_iou(*boxes.values[pairs.T]) > _SAME])
    all_pairs = np.sort(np.concatenate(found), axis=1)
    return all_pairs[:, 0], all_pairs[:, 1]


def _may_overlap(boxes: Boxes, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether the second, which begins further right, begins near enough for an IoU of `_SAME`.

    The common width is then at least that part of either, so no more than the rest is beside it.
    """
    beside = boxes.values[second, 0] - boxes.values[first, 0]
    near = beside <= boxes.sides[first, 0] * (1 - _SAME) / _SAME
    return near & (boxes.image[first] == boxes.image[second])


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of boxes [P, 4] and [P, 4], pair by pair."""
    with np.errstate(over="ignore", invalid="ignore"):
        common = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        shared = np.clip(common, 0, None).prod(axis=1)
        areas = [(box[:, 2:] - box[:, :2]).prod(axis=1) for box in (a, b)]
        return np.asarray(shared / (areas[0] + areas[1] - shared))
