"""Boxes in other units than pixels, or in another order of their numbers, all of them at once."""

from collections.abc import Iterator

import numpy as np

from detcenter.data.findings.found import Boxes, Finding, Part, boxes_of, of_boxes

_MOST = 0.9  # of all boxes
_MANY = 0.2  # of all boxes; of large objects, which begin near 0, few end before they begin
_FEW = 4  # boxes, below which nothing is said: they may be so by chance
_ROUNDED = 1.0  # pixel that a box may reach out
_SMALL = 16  # pixels: in images smaller than this a box may well be a pixel
_PERCENT = 100.5  # as far as boxes in percent reach, rounded
_ALMOST_WHOLE = 90.0  # percent that some box reaches, in both directions, if boxes lie anywhere
_BY_CHANCE = np.log(1e-6)  # that boxes anywhere would all lie within 100 pixels


def unit_findings(part: Part) -> Iterator[Finding | None]:
    """What is wrong with the numbers of most boxes of a part; of these only one can be."""
    boxes = boxes_of(part)
    real = np.isfinite(boxes.values).all(axis=1) & (boxes.sizes > 0).all(axis=1)
    if real.sum() < _FEW:
        return
    if (relative := _relative(boxes, real)).sum() >= _MOST * real.sum():
        what = "boxes look like parts of the image, 0 to 1; they must be pixels"
        yield of_boxes("relative", "fault", what, part, boxes, np.flatnonzero(relative))
    elif (inverted := _sizes(boxes, real)).any():
        what = "boxes look like a corner, width and height where two corners are due"
        yield of_boxes("sizes", "fault", what, part, boxes, np.flatnonzero(inverted))
    elif (percent := _percent(boxes, real)).any():
        what = "boxes look like percent of the image, 0 to 100; they must be pixels"
        yield of_boxes("percent", "fault", what, part, boxes, np.flatnonzero(percent))
    elif (corners := _corners(boxes, real)).any():
        what = "boxes look like two corners where a corner, width and height are due"
        yield of_boxes("corners", "fault", what, part, boxes, np.flatnonzero(corners))


def _relative(boxes: Boxes, real: np.ndarray) -> np.ndarray:
    """Boxes in the first pixel of an image of many.

    A center where a corner is due reaches to 1.5; VOC's first pixel is 1, which is taken off.
    """
    values, large = boxes.values, (boxes.sizes >= _SMALL).all(axis=1)
    within = (values[:, :2] >= -1).all(axis=1) & (values[:, 2:] <= 1.5).all(axis=1)
    return real & large & within & (boxes.sides > 0).all(axis=1)


def _percent(boxes: Boxes, real: np.ndarray) -> np.ndarray:
    """All boxes, if all are within 100 pixels, reach almost that far, and not by chance.

    Boxes that lie anywhere in a 640 x 480 image are there one time in 31, so that four are enough;
    in a 200 x 200 image ten are.
    """
    values, sizes = boxes.values[real], boxes.sizes[real]
    if (values < -1).any() or (values > _PERCENT).any() or (sizes <= _PERCENT).any():
        return np.zeros(len(real), bool)
    reach = (values[:, 2:].max(axis=0) >= _ALMOST_WHOLE).all()
    chance = np.log(100 / sizes).sum()
    return real & bool(reach and chance <= _BY_CHANCE)


def _sizes(boxes: Boxes, real: np.ndarray) -> np.ndarray:
    """Those that end before they begin, if many do and as x, y, w, h nearly all fit their image.

    Boxes that were two corners in the wrong order fit so one time in four, in the upper left.
    """
    corners, sides = boxes.values[:, :2], boxes.values[:, 2:]
    inverted = real & (boxes.sides < 0).any(axis=1)
    fits = (sides > 0).all(axis=1) & (corners >= -_ROUNDED).all(axis=1)
    fits &= (corners + sides <= boxes.sizes + _ROUNDED).all(axis=1)
    many = inverted.sum() >= max(_FEW, _MANY * real.sum())
    return inverted & bool(many and (fits & real).sum() >= 0.99 * real.sum())


def _corners(boxes: Boxes, real: np.ndarray) -> np.ndarray:
    """Those that reach out of their image, if half of all do and as corners nearly all fit it.

    A box x, y, w, h that was read as such ends at x + w: the corner it was meant to have is w, h.
    """
    ends, sides, sizes = boxes.values[:, 2:], boxes.sides, boxes.sizes
    out = real & (ends > sizes + _ROUNDED).any(axis=1)
    ordered = (sides > boxes.values[:, :2]).all(axis=1)
    fits = ordered & (boxes.values[:, :2] >= -_ROUNDED).all(axis=1)
    fits &= (sides <= sizes + _ROUNDED).all(axis=1)
    sure = out.sum() >= real.sum() / 2 and (fits & real).sum() >= 0.99 * real.sum()
    return out & bool(sure)
