"""Overlaps of boxes, and which detection takes which object."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detcenter.evaluation.detections import Detections


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes [N, 4] and [M, 4], xyxy, as [N, M]; 0 where both are empty."""
    shared, area_a, area_b = _intersection(a, b), _area(a), _area(b)
    return _ratio(shared, area_a[:, None] + area_b - shared)


def ignorable(found: Detections, annotation: Mapping[str, Any], iou: float) -> np.ndarray:
    """bool [N]: detections on something ignored of any class, which are not wrong.

    A difficult object, by its IoU, or a crowd, by the share of the detection that lies inside.
    """
    return np.asarray((ignored_overlap(found, annotation) >= iou).any(axis=1))


def ignored_overlap(found: Detections, annotation: Mapping[str, Any]) -> np.ndarray:
    """[N, M]: the IoU with difficult objects and the share inside crowds, 0 for all others."""
    boxes = np.asarray(annotation["boxes"], np.float64)
    crowd, difficult = (np.asarray(annotation[key], bool) for key in ("iscrowd", "difficult"))
    in_crowd = _ratio(_intersection(found.boxes, boxes), _area(found.boxes)[:, None])
    return np.where(crowd, in_crowd, np.where(difficult, box_iou(found.boxes, boxes), 0))


def objects_in(annotation: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float64 [M, 4] and labels [M] of what is to be found: neither crowd nor difficult."""
    kept = ~np.logical_or(annotation["iscrowd"], annotation["difficult"]).astype(bool)
    return np.asarray(annotation["boxes"], np.float64)[kept], np.asarray(annotation["labels"])[kept]


def surest_first(detection: Mapping[str, Any], score: float = -np.inf) -> Detections:
    """The detections of at least this score, in order of score; equal ones keep theirs."""
    found = Detections.of(detection)
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= score]
    return Detections(*(column[order] for column in found))


def greedy_matches(
    overlap: np.ndarray, same: np.ndarray, iou: float, many: np.ndarray | None = None
) -> np.ndarray:
    """Which object each detection takes, [N], -1 for none.

    One after the other they take the object that they overlap most, from `iou` on, of those that
    are left; of equal overlaps one of their own class, then the last, as COCO has it.

    Args:
        overlap: [N, M], detections in order of score.
        same: bool [N, M], whether detection and object have the same class.
        many: bool [M], objects that any number of detections may take, such as crowds.
    """
    matches = np.full(len(overlap), -1)
    left = np.ones(overlap.shape[1], dtype=bool)
    for i in np.flatnonzero((overlap >= iou).any(axis=1)):
        candidates = np.flatnonzero(left & (overlap[i] >= iou)).tolist()
        if candidates:
            row, own = overlap[i], same[i]
            matches[i] = max(candidates, key=lambda j: (row[j], own[j], j))
            left[matches[i]] = many is not None and many[matches[i]]
    return matches


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared: np.ndarray = (bottom_right - top_left).clip(min=0).prod(axis=2)
    return shared


def _area(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return area


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    whole = np.broadcast_to(whole, part.shape)
    ratio: np.ndarray = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return ratio
