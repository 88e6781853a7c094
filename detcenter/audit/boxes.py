"""Which boxes are missing, surplus or badly placed, by what a detector found in their images."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.evaluation.detections import Detections
from detcenter.evaluation.matching import box_iou, ignored_overlap, surest_first

_SAME = 0.5  # IoU from which on two boxes are of one object
_OTHER = 0.3  # below this IoU a detection is of something else
_WELL = 0.8  # from this IoU on a box lies as the detection wants it
_SURE = 0.5  # times the probability of the surest detection, from which on one is sure too
_IN_CROWD = 0.5  # share of a detection inside a crowd, from which on it is of that


class Placement(NamedTuple):
    """What was detected at and around N annotated boxes."""

    support: np.ndarray  # [N] in 0..1, the score of the surest detection there, of any class
    misplaced: np.ndarray  # [N] in 0..1, how probably the box lies badly
    better: np.ndarray  # [N, 4], the detection that says where it should lie; nan if there is none
    scores: np.ndarray  # [N], how probably that is an object; 0 if there is none
    iou: np.ndarray  # [N], likewise, its IoU with the box


class Missing(NamedTuple):
    """K detections of what is not annotated."""

    images: np.ndarray  # [K], the positions of their images
    boxes: np.ndarray  # [K, 4], xyxy in pixels
    scores: np.ndarray  # [K]
    labels: np.ndarray  # [K], from 1


def placement(
    annotations: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]
) -> Placement:
    """Hold all annotated boxes of images, one image after the other, against what was detected.

    A detection means the box that it overlaps most, if their IoU is 0.3 or more. The surest of
    those that mean a box, by how probably they are objects of any class (`_objectness`), says where
    that should lie. The box lies badly as probably as that is an object, times what falls from 1 at
    an IoU of 0.3 to 0 at 0.8: the best IoU of the surest and those half as sure or more, as a
    detector that doubts between two places is no witness against either. A box is supported by
    detections of an IoU of 0.5 or more.

    Args:
        annotations, detections: of the same images, as in `detcenter.evaluation`.
    """
    of_images = [_placement(*pair) for pair in zip(annotations, detections, strict=True)]
    nothing = Placement(np.zeros(0), np.zeros(0), np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    return Placement(*map(np.concatenate, zip(nothing, *of_images, strict=True)))


def missing_boxes(
    annotations: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]
) -> Missing:
    """Detections that lie on no annotated box: with none they have an IoU of 0.3 or more.

    Without those inside crowds, and without area; of two that overlap by an IoU of 0.5 or more only
    the surer.
    """
    of_images = [_missing(*pair) for pair in zip(annotations, detections, strict=True)]
    images = np.repeat(np.arange(len(of_images)), [len(scores) for _, scores, _ in of_images])
    nothing = np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)
    columns = map(np.concatenate, zip(nothing, *of_images, strict=True))
    return Missing(images, *columns)


def _objectness(found: Detections) -> np.ndarray:
    """How probably each detection is an object, [K], whatever its class.

    That is the sum over classes of the best score of a detection of the class that overlaps by an
    IoU of 0.5 or more, at most 1: where a class is in doubt, an object is not.
    """
    scores = np.where(box_iou(found.boxes, found.boxes) >= _SAME, found.scores, 0)
    of_classes = [scores[:, found.labels == c].max(axis=1) for c in np.unique(found.labels)]
    there: np.ndarray = np.minimum(1, np.sum(of_classes, axis=0)) if of_classes else found.scores
    return there


def _placement(annotation: Mapping[str, Any], detection: Mapping[str, Any]) -> Placement:
    found = surest_first(detection)
    boxes = np.asarray(annotation["boxes"], np.float64).reshape(-1, 4)
    iou = box_iou(found.boxes, boxes)
    count = len(boxes)
    result = Placement(
        np.where(iou >= _SAME, found.scores[:, None], 0).max(axis=0, initial=0),
        np.zeros(count),
        np.full((count, 4), np.nan),
        np.zeros(count),
        np.zeros(count),
    )
    if not count:
        return result
    there = _objectness(found)
    means = np.where(iou.max(axis=1) >= _OTHER, iou.argmax(axis=1), -1)
    for box in set(means.tolist()) - {-1}:
        at = np.flatnonzero(means == box)
        surest = int(at[there[at].argmax()])
        result.better[box], result.scores[box] = found.boxes[surest], there[surest]
        result.iou[box] = iou[surest, box]
        fit = iou[at[there[at] >= _SURE * there[surest]], box].max()
        off = max(0, (_WELL - fit) / (_WELL - _OTHER))
        result.misplaced[box] = there[surest] * off
    return result


def _missing(
    annotation: Mapping[str, Any], detection: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = surest_first(detection)
    iou = box_iou(found.boxes, np.asarray(annotation["boxes"], np.float64).reshape(-1, 4))
    crowd = np.asarray(annotation["iscrowd"], bool)
    in_crowd = ignored_overlap(found, annotation)[:, crowd].max(axis=1, initial=0)
    areas = (found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)
    free = np.flatnonzero(areas & (iou.max(axis=1, initial=0) < _OTHER) & (in_crowd < _IN_CROWD))
    free = free[_without_doubles(found.boxes[free])]
    return found.boxes[free], found.scores[free], found.labels[free]


def _without_doubles(boxes: np.ndarray) -> np.ndarray:
    """Positions of the boxes that overlap none of those kept before by an IoU of 0.5 or more."""
    iou, kept = box_iou(boxes, boxes), list[int]()
    for position in range(len(boxes)):
        if (iou[position, kept] < _SAME).all():
            kept.append(position)
    return np.array(kept, dtype=int)
