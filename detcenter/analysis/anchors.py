"""Anchors from the boxes of a data set, and how many objects they can be matched with.

Boxes are given as parts of the image's sides, so that they are those of the square that the image
is resized to.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Detector = Literal["ssd", "fasterrcnn", "retinanet"]
_RADIUS = 1.5  # strides from an object's center, within which FCOS holds points responsible
_STARTS = 5
_ROUNDS = 100


class Shapes(NamedTuple):
    """Sides and aspect ratios; every side has an anchor of every ratio."""

    scales: np.ndarray  # float64 [S], square roots of areas, ascending
    ratios: np.ndarray  # float64 [R], width by height, ascending


def cluster_shapes(sides: np.ndarray, num_scales: int, num_ratios: int, seed: int = 0) -> Shapes:
    """k-means on IoU (Redmon and Farhadi 2017, "YOLO9000", section 2, dimension clusters).

    As there, the distance of a box to a cluster is 1 - IoU, both centered on one point. A detector
    has every aspect ratio at every scale, so here the clusters are all pairs of a scale and a
    ratio: a box goes to the pair of the highest IoU, and a scale moves to the geometric mean of
    the scales of its boxes, a ratio likewise. Of several starts the one of the highest mean IoU.

    Args:
        sides: widths and heights of the boxes, above 0, [M, 2].
        num_scales, num_ratios: how many of each at most; equal ones are one.
        seed: of the starts.
    """
    if not len(sides) or sides.min() <= 0:
        raise ValueError(f"sides [M, 2] of one box or more, above 0, not {sides!r}")
    rng = np.random.default_rng(seed)
    scale, ratio = np.log(sides).mean(axis=1), np.log(sides[:, 0] / sides[:, 1])
    found = [
        _descend(sides, _start(rng, scale, num_scales), _start(rng, ratio, num_ratios))
        for _ in range(_STARTS)
    ]
    # Starts that lead to the same clusters differ by rounding; the first of them is taken.
    scores = [round(float(_pair_ious(sides, shapes).max(axis=1).mean()), 9) for shapes in found]
    best = found[int(np.argmax(scores))]
    return Shapes(np.unique(best.scales), np.unique(best.ratios))


def best_ious(
    boxes: np.ndarray,
    image_size: int,
    strides: Sequence[int],
    scales: Sequence[Sequence[float]],
    ratios: Sequence[float],
    detector: Detector = "ssd",
) -> np.ndarray:
    """The IoU of every box with the anchor that lies best for it, of all cells of all maps.

    Args:
        boxes: xyxy as parts of the image's sides, [M, 4].
        image_size: pixels, square, that the detector resizes images to.
        strides, scales, ratios: `strides`, `anchor_scales` and `aspect_ratios` of
            :func:`detcenter.models.custom.build_over_backbone`.
        detector: an SSD's anchors lie at the centers of cells; torchvision's region proposal
            network and RetinaNet have theirs at the upper left corners, with sides rounded to 2
            pixels.

    Returns:
        [M], 0..1
    """
    best = np.zeros(len(boxes))
    pixels = np.asarray(boxes, np.float64) * image_size
    for stride, level in zip(strides, scales, strict=True):
        cells = -(-image_size // stride)
        step = image_size / cells if detector == "ssd" else image_size // cells
        first = 0.5 * step if detector == "ssd" else 0.0
        # The shape given, IoU falls with the distance along either axis: the nearest cell is best.
        middle = (pixels[:, :2] + pixels[:, 2:]) / 2
        center = first + step * np.clip(np.round((middle - first) / step), 0, cells - 1)
        for side in _anchor_sides(level, ratios, image_size, detector):
            best = np.maximum(best, _ious(pixels, center - side / 2, center + side / 2))
    return best


def have_points(boxes: np.ndarray, image_size: int, strides: Sequence[int]) -> np.ndarray:
    """Which boxes would be matched with a point of torchvision's FCOS, were each alone, bool [M].

    A point lies at the upper left corner of its cell. It is matched with a box that it lies in,
    less than 1.5 strides from the center along both axes, whose farthest side is 4 to 8 strides
    away: on the finest map anything less, on the coarsest anything more.

    Args:
        boxes: xyxy as parts of the image's sides, [M, 4].
        image_size: pixels, square, that the detector resizes images to.
        strides: of its maps, ascending.
    """
    pixels = np.asarray(boxes, np.float64) * image_size
    middle = (pixels[:, :2] + pixels[:, 2:]) / 2
    found = np.zeros(len(pixels), bool)
    for level, stride in enumerate(strides):
        cells = -(-image_size // stride)
        step = image_size // cells
        nearest = np.clip(np.round(middle / step), 0, cells - 1)
        least = 4 * stride if level else 0
        most = 8 * stride if level < len(strides) - 1 else np.inf
        for offset in np.ndindex(3, 3):  # no others are near enough
            point = step * np.clip(nearest + offset - 1, 0, cells - 1)
            sides = np.concatenate([point - pixels[:, :2], pixels[:, 2:] - point], axis=1)
            near = np.abs(point - middle).max(axis=1) < _RADIUS * stride
            reach = sides.max(axis=1)
            found |= near & (sides.min(axis=1) > 0) & (reach > least) & (reach < most)
    return found


def matched_share(ious: np.ndarray, iou: float = 0.5) -> float:
    """Which part of the objects some anchor reaches: of :func:`best_ious` those of ``iou``."""
    return float((ious >= iou).mean())


def _start(rng: np.random.Generator, values: np.ndarray, count: int) -> np.ndarray:
    """Centers that are spread over the values, one drawn from each of ``count`` equal parts."""
    return np.quantile(values, (np.arange(count) + rng.random(count)) / count)


def _descend(sides: np.ndarray, scales: np.ndarray, ratios: np.ndarray) -> Shapes:
    """Lloyd's rounds from logarithms of scales and ratios, until no box changes its cluster."""
    logs = np.log(sides)
    own_scale, own_ratio = logs.mean(axis=1), logs[:, 0] - logs[:, 1]
    nearest = np.full(len(sides), -1)
    for _ in range(_ROUNDS):
        before = nearest
        nearest = _pair_ious(sides, Shapes(np.exp(scales), np.exp(ratios))).argmax(axis=1)
        if (nearest == before).all():
            break
        scales = _means(own_scale, nearest // len(ratios), scales)
        ratios = _means(own_ratio, nearest % len(ratios), ratios)
    return Shapes(np.exp(scales), np.exp(ratios))


def _means(values: np.ndarray, cluster: np.ndarray, old: np.ndarray) -> np.ndarray:
    """The mean of every cluster; one without boxes stays where it was."""
    count = np.bincount(cluster, minlength=len(old))
    total = np.bincount(cluster, weights=values, minlength=len(old))
    return np.where(count > 0, total / np.maximum(count, 1), old)


def _pair_ious(sides: np.ndarray, shapes: Shapes) -> np.ndarray:
    """IoU [M, S * R] of boxes and clusters that share their center."""
    roots = np.sqrt(shapes.ratios)
    clusters = np.stack(
        [np.outer(shapes.scales, roots).ravel(), np.outer(shapes.scales, 1 / roots).ravel()], 1
    )
    common = np.minimum(sides[:, None], clusters).prod(axis=2)
    return common / (sides.prod(axis=1)[:, None] + clusters.prod(axis=1) - common)


def _anchor_sides(
    level: Sequence[float],
    ratios: Sequence[float],
    image_size: int,
    detector: Detector,
) -> list[np.ndarray]:
    """Width and height in pixels of every anchor of a cell."""
    sides = [
        image_size * scale * np.array([ratio**0.5, ratio**-0.5])
        for scale in level
        for ratio in ratios
    ]
    return sides if detector == "ssd" else [2 * np.round(side / 2) for side in sides]


def _ious(boxes: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """IoU of every box [M, 4] with the box from ``low`` to ``high`` [M, 2]."""
    corners = np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low)
    common = np.maximum(corners, 0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (high - low).prod(axis=1)
    return common / (area - common)
