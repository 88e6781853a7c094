"""As few anchors as reach the objects of a data set."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detcenter.analysis.anchors import (
    Detector,
    best_ious,
    cluster_shapes,
    have_points,
    matched_share,
)

_MAX_SCALES = 6
_MAX_RATIOS = 3
_STRIDES = (8, 16, 32)
_LOSS = 0.01  # of the share that many more anchors would reach
_SAMPLE = 2000  # boxes that tell what the others are like


class Anchors(NamedTuple):
    """As :class:`detcenter.recipe.config.ModelConfig` names them."""

    strides: list[int]
    anchor_scales: list[list[float]]
    aspect_ratios: list[float]


def fitting_anchors(boxes: np.ndarray, image_size: int, detector: Detector) -> Anchors:
    """The fewest anchors a cell that reach one point less than the most that was tried.

    Args:
        boxes: xyxy as parts of the image's sides, [M, 4], of one box or more.
        image_size: pixels, square.
        detector: see :func:`detcenter.analysis.anchors.best_ious`.
    """
    some = np.random.default_rng(0).permutation(len(boxes))[:_SAMPLE]
    boxes = boxes[np.sort(some)]
    tried = []
    for num_scales in range(1, _MAX_SCALES + 1):
        for num_ratios in range(1, _MAX_RATIOS + 1):
            anchors = _anchors(boxes, num_scales, num_ratios, image_size, detector)
            if anchors is not None:
                count = sum(map(len, anchors.anchor_scales)) * len(anchors.aspect_ratios)
                tried.append((count, -reached(boxes, image_size, anchors, detector), anchors))
    most = max(-share for _, share, _ in tried)
    enough = [found for found in tried if -found[1] >= most - _LOSS]
    return min(enough, key=lambda found: found[:2])[2]


def reached(boxes: np.ndarray, image_size: int, anchors: Anchors, detector: Detector) -> float:
    """The share of the objects that some anchor reaches at IoU 0.5."""
    return matched_share(best_ious(boxes, image_size, *anchors, detector))


def fitting_strides(boxes: np.ndarray, image_size: int) -> list[int]:
    """The strides that FCOS puts nine of ten objects on, by their longer sides.

    A map of stride s has objects whose half longer side is 4 to 8 s, the finest smaller ones too,
    and the coarsest larger ones.
    """
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) * image_size
    finest, coarsest = (_stride_of_points(float(x)) for x in np.quantile(longer, [0.05, 0.95]))
    return [stride for stride in _STRIDES if finest <= stride <= coarsest]


def near_points(boxes: np.ndarray, image_size: int, strides: Sequence[int]) -> float:
    """The share of the objects that FCOS holds some point responsible for."""
    return float(have_points(boxes, image_size, strides).mean())


def _stride_of_points(longer: float) -> int:
    return next((s for s in _STRIDES if longer / 2 < 8 * s), _STRIDES[-1])


def _anchors(
    boxes: np.ndarray,
    num_scales: int,
    num_ratios: int,
    image_size: int,
    detector: Detector,
) -> Anchors | None:
    """Of so many clusters; None where a detector of one head for all strides cannot have them."""
    shapes = cluster_shapes(boxes[:, 2:] - boxes[:, :2], num_scales, num_ratios)
    scales = sorted({max(0.001, min(1.0, _rounded(scale))) for scale in shapes.scales})
    ratios = sorted({_rounded(ratio) for ratio in shapes.ratios})
    strides = [_stride(scale * image_size, ratios) for scale in scales]
    if detector != "ssd":
        # Equally many scales each; and a Faster R-CNN leaves no stride between out.
        used = [s for s in _STRIDES if min(strides) <= s <= max(strides)]
        if len(scales) % len(used):
            return None
        strides = np.repeat(used, len(scales) // len(used)).tolist()
    levels = sorted(set(strides))
    by_level = [[x for x, s in zip(scales, strides, strict=True) if s == level] for level in levels]
    return Anchors(levels, by_level, ratios)


def _stride(side: float, ratios: list[float]) -> int:
    """The widest at which anchors of ``side`` pixels reach their likes wherever these lie.

    The farthest lie half a stride aside along both axes, and overlap by the part p of either. Their
    IoU is p / (2 - p), which is 0.5 where p is 2 / 3: of squares of 2.7 strides.
    """

    def reaches(stride: int) -> bool:
        sides = np.array([[side * ratio**0.5, side / ratio**0.5] for ratio in ratios])
        return bool((np.maximum(1 - stride / 2 / sides, 0).prod(axis=1) >= 2 / 3).all())

    return max((stride for stride in _STRIDES if reaches(stride)), default=_STRIDES[0])


def _rounded(value: float) -> float:
    """To two digits that count, as a person would write it."""
    return float(f"{value:.2g}")
