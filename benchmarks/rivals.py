"""What else could rank annotated boxes by how wrong they are, on the same detections.

Each function takes a `Fold` and the annotations and detections of its images, and gives, by kind
of error and name, a score [N] for each of the fold's boxes; higher is worse.
"""

from typing import Any

import numpy as np
from scipy.special import log_softmax  # type: ignore[import-untyped]

from detcenter.data.dataset import learnable
from detcenter.evaluation.matching import box_iou, greedy_matches, surest_first
from detcenter.runs.audited import Fold

Scores = dict[tuple[str, str], np.ndarray]


def by_detections(fold: Fold, annotations: Any, detections: Any) -> Scores:
    """The detector's score: of the label, or of any, the best at the box (Schubert et al.)."""
    own, any_class = [], []
    for annotation, detection in zip(annotations, detections, strict=True):
        found = surest_first(detection)
        hit = box_iou(found.boxes, annotation["boxes"]) >= 0.5
        same = found.labels[:, None] == annotation["labels"]
        looked_at = learnable(annotation, False)
        own.append(np.where(hit & same, found.scores[:, None], 0).max(0, initial=0)[looked_at])
        any_class.append(np.where(hit, found.scores[:, None], 0).max(0, initial=0)[looked_at])
    return {
        ("flip", "score of the label"): 1 - np.concatenate(own),
        ("spawn", "score of any label"): 1 - np.concatenate(any_class),
        ("shift", "score of the label"): 1 - np.concatenate(own),
    }


def by_loss(fold: Fold, annotations: Any, detections: Any) -> Scores:
    """Loss inspection: the classifier's cross-entropy for the label, background included, and what
    the best detection of the box is off by (1 - IoU), and their sum.
    """
    labels = fold.annotated.labels
    of_class = -log_softmax(fold.witnesses.logits, axis=1)[np.arange(len(labels)), labels]
    off = box_losses(annotations, detections)
    total = of_class + off
    return {
        ("flip", "loss of the class"): of_class,
        ("flip", "both losses"): total,
        ("spawn", "both losses"): total,
        ("shift", "loss of the box"): off,
        ("shift", "both losses"): total,
    }


def box_losses(annotations: Any, detections: Any) -> np.ndarray:
    """What the best detection of each box is off by, 1 - IoU."""
    off = []
    for annotation, detection in zip(annotations, detections, strict=True):
        iou = box_iou(np.asarray(detection["boxes"], float).reshape(-1, 4), annotation["boxes"])
        off.append(1 - iou.max(0, initial=0)[learnable(annotation, False)])
    return np.concatenate(off)


def fiftyone_scores(fold: Fold, annotations: Any, detections: Any) -> Scores:
    """The formulas of FiftyOne's mistakenness (fiftyone-brain 0.27), from scores without logits.

    A detection takes the object that it overlaps most, from an IoU of 0.5 on, whatever its class.
    c is its score: (1 + c) / 2 of another class, (1 - c) / 2 of the same; of the place
    (c (2 i - 1) + 1) / 2 with i = 2 (1 - IoU). A box that none takes is spurious, and has neither.
    """
    wrong, off, spurious = [], [], []
    for annotation, detection in zip(annotations, detections, strict=True):
        found, boxes = surest_first(detection), annotation["boxes"]
        iou = box_iou(found.boxes, boxes)
        same = found.labels[:, None] == annotation["labels"]
        taken = greedy_matches(iou, same, 0.5)
        of_class, of_place = np.zeros(len(boxes)), np.zeros(len(boxes))
        free = np.ones(len(boxes))
        for n in np.flatnonzero(taken >= 0):
            m, c = taken[n], found.scores[n]
            of_class[m] = (1 + c) / 2 if not same[n, m] else (1 - c) / 2
            of_place[m] = (c * (4 * (1 - iou[n, m]) - 1) + 1) / 2
            free[m] = 0
        looked_at = learnable(annotation, False)
        wrong.append(of_class[looked_at])
        off.append(of_place[looked_at])
        spurious.append(free[looked_at])
    return {
        ("flip", "fiftyone"): np.concatenate(wrong),
        ("shift", "fiftyone"): np.concatenate(off),
        ("spawn", "fiftyone"): np.concatenate(spurious),
    }


def cleanlab_scores(fold: Fold, annotations: Any, detections: Any) -> Scores:
    """cleanlab's swap and bad-location scores, at their thresholds and at lower ones; with
    cleanlab installed only.
    """
    try:
        from cleanlab.object_detection import rank
    except ImportError:
        return {}
    labels = [
        {"bboxes": np.asarray(a["boxes"], float), "labels": np.asarray(a["labels"]) - 1}
        for a in annotations
    ]
    predictions = [_by_class(d, len(fold.dataset.classes)) for d in detections]
    looked_at = [learnable(a, False) for a in annotations]

    def joined(scores: Any) -> np.ndarray:
        return 1 - np.concatenate(
            [np.asarray(s)[m] for s, m in zip(scores, looked_at, strict=True)]
        )

    scores = {}
    for threshold in (0.95, 0.5, 0.2):
        found = rank.compute_swap_box_scores(
            labels=labels, predictions=predictions, high_probability_threshold=threshold
        )
        scores["flip", f"cleanlab, {threshold:g}"] = joined(found)
    for threshold in (0.5, 0.2):
        found = rank.compute_badloc_box_scores(
            labels=labels, predictions=predictions, low_probability_threshold=threshold
        )
        scores["shift", f"cleanlab, {threshold:g}"] = joined(found)
        scores["spawn", f"cleanlab, {threshold:g}"] = joined(found)
    return scores


def _by_class(detection: Any, classes: int) -> np.ndarray:
    rows = np.column_stack([detection["boxes"], detection["scores"]]).astype(float)
    labels = np.asarray(detection["labels"])
    found = np.empty(classes, object)
    for label in range(1, classes + 1):
        found[label - 1] = rows[labels == label]
    return found
