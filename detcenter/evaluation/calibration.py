"""Whether a score is the probability that a detection is right.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017; of detections: Küppers et al.,
Multivariate Confidence Calibration for Object Detection, CVPR Workshops 2020.
"""

import math
from typing import Any

import numpy as np

# A detector gives very many detections with scores near 0, nearly all wrong. They would make any
# detector look calibrated, hence Küppers' lowest score.
EDGES = np.arange(3, 11) / 10


def calibration(scores: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """The expected calibration error of detections with a score of at least 0.3.

    In bins of 0.1, each with its lower end, the last one with both, for the n detections of all::

        error = sum over bins of count / n * |precision - mean score|       (Guo et al., eq. 3)

    Args:
        scores: [N], probabilities.
        right: bool [N], whether a detection took an object.

    Returns:
        `error`, and `bins`: lists of their ends `from` and `to`, `count`, mean `score` and
        `precision`. nan where there is no detection, and if scores are beyond 0 to 1.
    """
    low, high = EDGES[:-1], EDGES[1:]
    probabilities = scores.size > 0 and scores.min() >= 0 and scores.max() <= 1
    counted = (scores >= low[0]) & probabilities
    number = np.searchsorted(low, scores[counted], side="right") - 1
    count = np.bincount(number, minlength=len(low))
    sums = [
        np.bincount(number, weights=x[counted].astype(float), minlength=len(low))
        for x in (scores, right)
    ]
    with np.errstate(invalid="ignore"):
        score, precision = (total / count for total in sums)
    error = np.abs(sums[1] - sums[0]).sum() / count.sum() if count.any() else math.nan
    bins = {"from": low, "to": high, "count": count, "score": score, "precision": precision}
    return {"error": float(error), "bins": {name: x.tolist() for name, x in bins.items()}}
