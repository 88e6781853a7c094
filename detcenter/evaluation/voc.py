"""Mean average precision as the PASCAL VOC development kit computes it (VOCevaldet.m).

Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010, section 4.2.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.evaluation.detections import Detections
from detcenter.evaluation.many import one_after_the_other
from detcenter.evaluation.matching import box_iou


class Matched(NamedTuple):
    """All images' detections, each beside the ground truth it overlaps most.

    scores, labels, overlap (IoU; -1 where the image has no box of that class) and nearest (index
    of the ground truth among all images'), each [N]; gt_labels and gt_ignored, each [M].
    """

    scores: np.ndarray
    labels: np.ndarray
    overlap: np.ndarray
    nearest: np.ndarray
    gt_labels: np.ndarray
    gt_ignored: np.ndarray


def voc_metrics(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    iou: float = 0.5,
) -> dict[str, Any]:
    """VOC average precision: mean over 11 recall levels (2007), and area under the curve (2012).

    In order of score, each detection is compared with the ground truth of its class that it
    overlaps most in its image. From an IoU of `iou` on (the kit's `>=`; py-faster-rcnn's copy has
    `>`) it is a true positive the first time and a false positive after that. Where that ground
    truth is difficult, or a crowd, the detection counts as neither.

    Boxes are continuous coordinates: the kit's +1 for inclusive pixel indices is not added here.

    Returns `mAP_07`, `mAP_12`, and the dicts `AP_07_by_class` and `AP_12_by_class` from name to
    AP. A class with nothing but ignored ground truth has nan and stays out of the means.
    """
    matched = match(annotations, detections)
    curves = [curve(matched, label, iou) for label in range(1, len(classes) + 1)]
    ap_07 = [_ap_11_points(recall, precision) for recall, precision in curves]
    ap_12 = [ap_area(recall, precision) for recall, precision in curves]
    return {
        "mAP_07": _mean_of_defined(ap_07),
        "mAP_12": _mean_of_defined(ap_12),
        "AP_07_by_class": dict(zip(classes, ap_07, strict=True)),
        "AP_12_by_class": dict(zip(classes, ap_12, strict=True)),
    }


def match(
    annotations: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]
) -> Matched:
    """Of all images, in the order in which they come."""
    real, whole, flag = np.empty(0), np.empty(0, int), np.empty(0, bool)

    def images() -> Iterator[Matched]:
        first = 0  # index, among all ground truth, of this image's first
        for annotation, detection in zip(annotations, detections, strict=True):
            found = Detections.of(detection)
            overlap, nearest = _nearest(found, annotation)
            labels = np.asarray(annotation["labels"])
            ignored = np.logical_or(annotation["difficult"], annotation["iscrowd"])
            yield Matched(found.scores, found.labels, overlap, first + nearest, labels, ignored)
            first += len(labels)

    return Matched(*one_after_the_other(images(), Matched(real, whole, real, whole, whole, flag)))


def _nearest(found: Detections, annotation: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Largest IoU with a ground truth of the same class, and its index; -1 and 0 without one."""
    if len(annotation["labels"]) == 0:
        return np.full(len(found.labels), -1.0), np.zeros(len(found.labels), int)
    overlap = box_iou(found.boxes, np.asarray(annotation["boxes"], np.float64))
    overlap[found.labels[:, None] != np.asarray(annotation["labels"])[None]] = -1
    return overlap.max(axis=1), overlap.argmax(axis=1)


def curve(matched: Matched, label: int, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision after each detection of one class, best score first.

    Both are a single nan if the class has nothing to find.
    """
    objects = objects_of(matched, label)
    if objects == 0:
        return np.array([math.nan]), np.array([math.nan])
    order = surest_of(matched, label)
    first, ignored = voc_verdicts(matched, order, iou)
    true_positives = np.cumsum(first & ~ignored)
    return true_positives / objects, true_positives / np.maximum(np.cumsum(~ignored), 1)


def objects_of(matched: Matched, label: int) -> int:
    """How many objects of a class there are to find."""
    return int(np.count_nonzero((matched.gt_labels == label) & ~matched.gt_ignored))


def surest_of(matched: Matched, label: int) -> np.ndarray:
    """Indices of a class's detections in order of score; equal ones keep theirs."""
    of_class = np.flatnonzero(matched.labels == label)
    return of_class[np.argsort(-matched.scores[of_class], kind="stable")]


def voc_verdicts(matched: Matched, order: np.ndarray, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the detections `order`, which is the first to hit its ground truth, and which is ignored.

    Both bool, shaped like `order`.
    """
    hits = np.flatnonzero(matched.overlap[order] >= iou)
    targets = matched.nearest[order[hits]]
    ignored = np.zeros(len(order), bool)
    ignored[hits] = matched.gt_ignored[targets]
    first = np.zeros(len(order), bool)
    first[hits[np.unique(targets, return_index=True)[1]]] = True
    return first, ignored


def _ap_11_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean, over recalls 0, 0.1, ..., 1, of the best precision at that recall or beyond it."""
    if np.isnan(recall).any():
        return math.nan
    levels = np.arange(11) / 10  # unlike 3 * 0.1, 3 / 10 equals a recall of 3 in 10 objects
    best = [precision[recall >= level].max(initial=0) for level in levels]
    return float(np.mean(best))


def ap_area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the precision curve after making it fall monotonically."""
    if np.isnan(recall).any():
        return math.nan
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
