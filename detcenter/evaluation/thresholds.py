"""The score from which on detections of a class are best taken."""

import math

import numpy as np


def best_threshold(scores: np.ndarray, right: np.ndarray, objects: int) -> dict[str, float]:
    """Where the detections of one class have the highest F1, the harmonic mean of precision and
    recall.

    A threshold takes the detections with ``score >= threshold``, all that share a score together.
    It is the lowest score that is taken; of several with the same F1 the highest.

    Args:
        scores: [N]
        right: bool [N], whether a detection took an object.
        objects: how many there are to be found.

    Returns:
        `threshold`, and `precision`, `recall` and `f1` there. All are nan if there is nothing to
        be found; if nothing is found, recall and F1 are 0 whatever the threshold, which is nan.
    """
    if objects == 0:
        return dict.fromkeys(("threshold", "precision", "recall", "f1"), math.nan)
    if not right.any():
        return {"threshold": math.nan, "precision": math.nan, "recall": 0.0, "f1": 0.0}
    order = np.argsort(-scores, kind="stable")
    last = np.append(scores[order][1:] < scores[order][:-1], True)  # of those that share a score
    taken = np.flatnonzero(last) + 1
    hits = np.cumsum(right[order])[last]
    f1 = 2 * hits / (taken + objects)
    best = int(f1.argmax())
    return {
        "threshold": float(scores[order[taken[best] - 1]]),
        "precision": float(hits[best] / taken[best]),
        "recall": float(hits[best] / objects),
        "f1": float(f1[best]),
    }
