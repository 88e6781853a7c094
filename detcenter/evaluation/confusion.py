"""Which class is taken for which."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.evaluation.matching import (
    box_iou,
    greedy_matches,
    ignorable,
    objects_in,
    surest_first,
)


class Confusions(NamedTuple):
    """What was taken for what in one image, P times."""

    true: np.ndarray  # int64 [P], labels of objects; 0, background, of detections that took none
    found: np.ndarray  # int64 [P], labels of detections; 0 of objects that none took
    boxes: np.ndarray  # float64 [P, 4], xyxy: the object's, or else the detection's
    scores: np.ndarray  # float64 [P], nan of objects that none took


def confusions(
    annotation: Mapping[str, Any],
    detection: Mapping[str, Any],
    iou: float = 0.5,
    score: float = 0.5,
) -> Confusions:
    """What `confusion_matrix` counts, of one image."""
    found = surest_first(detection, score)
    boxes, labels = objects_in(annotation)
    same = found.labels[:, None] == labels
    matches = greedy_matches(box_iou(found.boxes, boxes), same, iou)
    taken = matches >= 0
    wrong = ~taken & ~ignorable(found, annotation, iou)
    missed = np.setdiff1d(np.arange(len(labels)), matches)
    nothing = np.zeros_like
    return Confusions(
        np.concatenate([labels[matches[taken]], nothing(found.labels[wrong]), labels[missed]]),
        np.concatenate([found.labels[taken], found.labels[wrong], nothing(labels[missed])]),
        np.concatenate([boxes[matches[taken]], found.boxes[wrong], boxes[missed]]),
        np.concatenate([found.scores[taken], found.scores[wrong], np.full(len(missed), np.nan)]),
    )


def confusion_matrix(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    iou: float = 0.5,
    score: float = 0.5,
) -> np.ndarray:
    """Counts, int64 [K + 1, K + 1]: rows are ground truth, columns detections, the last background.

    In every image the detections of at least `score`, the surest first, each take the object that
    they overlap most, whatever its class, among those of an IoU of at least `iou` that no other
    took. Objects that none took are in the last column (missed), detections that took none in the
    last row (nothing there, or there twice).

    Crowd and difficult objects are ignored, and so is a detection that took no object and lies on
    one of them: by `iou` on a difficult one, with that share inside a crowd.

    A detector gives up to hundreds of boxes an image, most of them with scores near 0, for average
    precision to rank. All of them would fill the last row and take objects under any name; what is
    asked here is what a user sees who acts on the likely ones, hence `score`. Detectors whose
    scores are low throughout (RetinaNet, FCOS) want a lower one.
    """
    matrix = np.zeros((len(classes) + 1, len(classes) + 1), dtype=np.int64)
    for annotation, detection in zip(annotations, detections, strict=True):
        of_image = confusions(annotation, detection, iou, score)
        # Label 0, background, comes last: that is what the index -1 says.
        np.add.at(matrix, (of_image.true - 1, of_image.found - 1), 1)
    return matrix


def most_confused(
    matrix: np.ndarray, classes: Sequence[str], top: int = 10
) -> list[tuple[str, str, int, float]]:
    """Pairs of classes: the true one, the detected one, how often, and as a part of the true one's.

    The most frequent first; background and what is right are left out.
    """
    between = matrix[:-1, :-1] * (1 - np.eye(len(classes), dtype=np.int64))
    order = np.argsort(-between, axis=None, kind="stable")[:top]
    pairs = zip(*np.unravel_index(order, between.shape), strict=True)
    return [
        (classes[i], classes[j], int(between[i, j]), float(between[i, j] / matrix[i].sum()))
        for i, j in pairs
        if between[i, j]
    ]


def nothing_confused(matrix: np.ndarray) -> str:
    """Why `most_confused` finds no pair, in words."""
    of_objects, elsewhere = matrix[:-1, :-1].sum(), matrix[-1, :-1].sum()
    if of_objects:
        return "no class is taken for another"
    if not elsewhere:
        return "nothing is detected"
    number = "1 detection lies" if elsewhere == 1 else f"{elsewhere:,} detections lie"
    return f"no object is found; {number} on none"
