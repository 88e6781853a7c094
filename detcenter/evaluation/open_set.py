"""How a detector of known classes meets objects of classes that it was never taught.

As the public code of two papers has it: Joseph et al., Towards Open World Object Detection, CVPR
2021 (OWOD), and Han et al., Expanding Low-Density Latent Regions for Open-Set Object Detection,
CVPR 2022 (OpenDet). Wilderness impact: Dhamija et al., The Overlooked Elephant of Object Detection:
Open Set, WACV 2020. Open-set errors: Miller et al., Dropout Sampling for Robust Object Detection
in Open-Set Conditions, ICRA 2018.

AUROC of right detections against those on unknown objects: Miller et al., Uncertainty for
Identifying Open-Set Errors in Visual Object Detection, RA-L 2022 (GMM-Det). Of all detections of
images without unknown objects against all of images with them: Du et al., VOS: Learning What You
Don't Know by Virtual Outlier Synthesis, ICLR 2022.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from detcenter.evaluation.detections import as_array
from detcenter.evaluation.matching import box_iou, objects_in
from detcenter.evaluation.voc import (
    Matched,
    ap_area,
    curve,
    match,
    objects_of,
    surest_of,
    voc_verdicts,
)

RECALL = 0.8  # at which both papers read the wilderness impact


class _Found(NamedTuple):
    """All images' detections, [N], with what they overlap."""

    known: Matched  # each under its own label
    unknown: Matched  # all under the label of unknown objects
    unknown_scores: np.ndarray  # [N]
    on_unknown: np.ndarray  # bool [N]
    images: np.ndarray  # int64 [N], the place of the image of each


def open_set_metrics(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    threshold: float,
    iou: float = 0.5,
) -> dict[str, Any]:
    """What becomes of unknown objects: those with a label above K, the number of `classes`.

    Every overlap counts from *more* than `iou` on, as in the public code and unlike `voc_metrics`.
    A detection is *on an unknown object* if this holds for the unknown object that it overlaps
    most, and that is neither difficult nor a crowd. Objects that are one of these count nowhere,
    and a detection is neither right nor wrong where one of its own class is what it overlaps most.
    Both public codes heed this but for WI and A_OSE, where a difficult unknown object is like any
    other; they know no crowds. They round scores to 0.001 and boxes to 0.1, and add 1 to sides.

    A detection with an unknown score above `threshold` is *marked*: it is one of the class
    "unknown", with its own score as confidence. From what is then there, matched as in
    `voc_metrics`, where equal scores keep their order:

    - `WI`, wilderness impact at recall 0.8. Each class is read at the first of its detections, the
      surest first, at which its recall is nearest to 0.8. From there up, FP_open are those on an
      unknown object, and TP + FP all that count for VOC, those of FP_open among them:
      mean over classes of FP_open / mean over classes of (TP + FP). A class without objects stays
      out (the public code reads it at its first detection), as does one without detections, which
      would add 0 to both means. OpenDet gives this in percent, OWOD at recalls of 0.1 to 0.9 too.
    - `WI_short_of_recall`: names of classes with objects that do not reach 0.8, and so are read at
      their highest recall, or not at all.
    - `A_OSE`: int, how many detections of known classes are on an unknown object. Duplicates
      count, and so do those that are right, or ignored, by a known object.
    - `AP_unknown`: area under the precision curve of marked detections against unknown objects.
    - `U_recall`: the share of unknown objects that marked detections find.

    From unknown scores alone, whatever is marked, of detections under their own labels:

    - `AUROC`, `FPR95`: known are true positives. Unknown are those on an unknown object that are
      neither true positives nor ignored. So one on a known and an unknown object is known if it is
      right, and else unknown, a duplicate say; GMM-Det leaves some of these out, as its detections
      take known objects of any class first.
    - `AUROC_images`, `FPR95_images`: known are all detections of images without any unknown object,
      unknown all of images with one. Images where all of those are difficult or crowds stay out.

    AUROC is the probability that an unknown one has the higher score, with 1/2 for an equal one
    (Mann-Whitney). For FPR95, the n known ones are accepted up to the score of rank ceil(0.95 n),
    the lowest that accepts 95 %; it is the share of unknown ones with that score or a lower one.
    VOS takes the score at which the share accepted is nearest to 95 %.

    - `undetected`: the share of unknown objects that no detection of any label overlaps. None of
      them is in `AUROC`.
    - counts: `unknown_objects`, `images_with_unknown`, and the detections that an AUROC is of:
      `right_detections`, `detections_on_unknown`; `detections_without_unknown`,
      `detections_with_unknown`.

    nan is what has nothing to be measured on; of WI, also without unknown objects, where the
    public code has 0.

    Args:
        detections: with `unknown_scores` [N] beside the rest, higher for more unknown, labels 1..K.

    Raises:
        ValueError: for lengths that differ, labels above K, and unknown scores that are nan.
    """
    scores = _unknown_scores(annotations, detections, len(classes))
    above = _above(iou)
    unknown = len(classes) + 1
    truths = [{**a, "labels": np.minimum(a["labels"], unknown)} for a in annotations]
    found = _found(truths, detections, scores, unknown, above)
    return {
        **_after_marking(found, classes, threshold, above),
        **_by_detection(found, above),
        **_by_image(found, truths, unknown),
        "undetected": _undetected(truths, detections, unknown, above),
        "unknown_objects": objects_of(found.unknown, unknown),
    }


def right_detections(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    iou: float = 0.5,
) -> np.ndarray:
    """Which detections are right, bool [N], of all images one after the other.

    As `AUROC` of `open_set_metrics` has it: of a known object, with more than `iou`, the surest.
    """
    return _verdicts(match(annotations, detections), _above(iou))[0]


def _above(iou: float) -> float:
    """The IoU from which on one is more than ``iou``."""
    return float(np.nextafter(iou, np.inf))


def _verdicts(matched: Matched, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are true positives, and which are ignored, both bool [N]."""
    order = np.argsort(-matched.scores, kind="stable")
    right, ignored = np.zeros(len(order), bool), np.zeros(len(order), bool)
    first, ignored[order] = voc_verdicts(matched, order, iou)
    right[order] = first & ~ignored[order]
    return right, ignored


def _unknown_scores(
    annotations: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]], known: int
) -> np.ndarray:
    if len(annotations) != len(detections):
        raise ValueError(f"{len(annotations)} annotations and {len(detections)} detections")
    all_scores = [np.zeros(0)]
    for annotation, detection in zip(annotations, detections, strict=True):
        scores = as_array(detection["unknown_scores"], torch.float64)
        labels = as_array(detection["labels"], torch.int64)
        where = f"in image {annotation['image_id']}"
        if len(labels) != len(scores):
            raise ValueError(f"{len(labels)} labels and {len(scores)} unknown_scores {where}")
        if (labels > known).any():
            raise ValueError(f"a detection of label {labels.max()} of {known} classes {where}")
        if np.isnan(scores).any():
            raise ValueError(f"an unknown score is nan {where}")
        all_scores.append(scores)
    return np.concatenate(all_scores)


def _found(
    truths: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    scores: np.ndarray,
    unknown: int,
    iou: float,
) -> _Found:
    counts = [len(detection["labels"]) for detection in detections]
    renamed = [
        {**detection, "labels": np.full(count, unknown)}
        for detection, count in zip(detections, counts, strict=True)
    ]
    known, as_unknown = match(truths, detections), match(truths, renamed)
    _, ignored = voc_verdicts(as_unknown, np.arange(len(scores)), iou)
    on_unknown = (as_unknown.overlap >= iou) & ~ignored
    images = np.repeat(np.arange(len(counts)), counts)
    return _Found(known, as_unknown, scores, on_unknown, images)


def _after_marking(
    found: _Found, classes: Sequence[str], threshold: float, iou: float
) -> dict[str, Any]:
    marked = found.unknown_scores > threshold
    known, unknown = found.known, found.unknown
    matched = known._replace(
        labels=np.where(marked, unknown.labels, known.labels),
        overlap=np.where(marked, unknown.overlap, known.overlap),
        nearest=np.where(marked, unknown.nearest, known.nearest),
    )
    recall, precision = curve(matched, len(classes) + 1, iou)
    return {
        **_wilderness_impact(matched, found.on_unknown, classes, iou),
        "A_OSE": int(np.count_nonzero(found.on_unknown & ~marked)),
        "AP_unknown": ap_area(recall, precision),
        "U_recall": float(recall.max(initial=0)),
    }


def _wilderness_impact(
    matched: Matched, on_unknown: np.ndarray, classes: Sequence[str], iou: float
) -> dict[str, Any]:
    false_open = counted = 0
    short = []
    for label, name in enumerate(classes, start=1):
        if not (objects := objects_of(matched, label)):
            continue
        order = surest_of(matched, label)
        first, ignored = voc_verdicts(matched, order, iou)
        recall = np.cumsum(first & ~ignored) / objects
        if recall.max(initial=0) < RECALL:
            short.append(name)
        read = order[: np.abs(recall - RECALL).argmin() + 1] if len(order) else order
        false_open += int(on_unknown[read].sum())
        counted += int((~ignored[: len(read)]).sum())
    defined = counted and objects_of(matched, len(classes) + 1)
    return {"WI": false_open / counted if defined else math.nan, "WI_short_of_recall": short}


def _by_detection(found: _Found, iou: float) -> dict[str, Any]:
    right, ignored = _verdicts(found.known, iou)
    wrong = found.on_unknown & ~right & ~ignored
    return {
        **_separation(found.unknown_scores[right], found.unknown_scores[wrong]),
        "right_detections": int(right.sum()),
        "detections_on_unknown": int(wrong.sum()),
    }


def _by_image(found: _Found, truths: Sequence[Mapping[str, Any]], unknown: int) -> dict[str, Any]:
    without = np.array([unknown not in truth["labels"] for truth in truths], bool)
    with_unknown = np.array([unknown in objects_in(truth)[1] for truth in truths], bool)
    known, other = without[found.images], with_unknown[found.images]
    separation = _separation(found.unknown_scores[known], found.unknown_scores[other])
    return {
        **{f"{key}_images": value for key, value in separation.items()},
        "images_with_unknown": int(with_unknown.sum()),
        "detections_without_unknown": int(known.sum()),
        "detections_with_unknown": int(other.sum()),
    }


def _separation(known: np.ndarray, unknown: np.ndarray) -> dict[str, float]:
    if len(known) == 0 or len(unknown) == 0:
        return {"AUROC": math.nan, "FPR95": math.nan}
    known = np.sort(known)
    lower, not_higher = (np.searchsorted(known, unknown, side) for side in ("left", "right"))
    last = known[math.ceil(0.95 * len(known)) - 1]
    return {
        "AUROC": float((lower + not_higher).mean() / (2 * len(known))),
        "FPR95": float((unknown <= last).mean()),
    }


def _undetected(
    truths: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    unknown: int,
    iou: float,
) -> float:
    missed = objects = 0
    for truth, detection in zip(truths, detections, strict=True):
        boxes, labels = objects_in(truth)
        found = as_array(detection["boxes"], torch.float64).reshape(-1, 4)
        overlap = box_iou(found, boxes[labels == unknown])
        missed += int((overlap.max(axis=0, initial=0) < iou).sum())
        objects += overlap.shape[1]
    return missed / objects if objects else math.nan
