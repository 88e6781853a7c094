"""COCO's numbers, means of what pycocotools or hotcoco accumulates.

https://cocodataset.org/#detection-eval
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from detcenter.evaluation import fast, pycoco
from detcenter.evaluation.detections import Accumulated

COCO_KEYS = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision
SIZES = ("small", "medium", "large")  # up to 32 x 32 and 96 x 96 pixels, and beyond

Backend = Literal["pycocotools", "hotcoco"]
_ACCUMULATE = {"pycocotools": pycoco.accumulate, "hotcoco": fast.accumulate}


def coco_keys(max_detections: int = 100) -> tuple[str, ...]:
    """`COCO_KEYS` where so many detections of an image and class count: AR_100 has the number."""
    return tuple(f"AR_{max_detections}" if key == "AR_100" else key for key in COCO_KEYS)


def coco_metrics(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    backend: Backend = "pycocotools",
    max_detections: int = 100,
) -> dict[str, Any]:
    """COCO average precision and recall, at most `max_detections` of an image and class.

    Crowd boxes are ignored as COCO does: any number of detections may match one, by the share of
    the detection that lies inside. Difficult boxes are ignored too, but with the ordinary IoU and
    for one detection each.

    Both backends give the same numbers.

    Returns the twelve numbers under `coco_keys(max_detections)`; `AP_by_class`,
    `AP_small_by_class`, `AP_medium_by_class` and `AP_large_by_class`, dicts from name to AP; and
    `curves_by_class`, see `curves`. nan where no ground truth makes a number undefined
    (pycocotools says -1).

    AR_1 and AR_10 take 1 and 10 detections, whatever `max_detections` is; all else takes that many.

    Raises ValueError if two images share an `image_id` or the two sequences differ in length, and
    ImportError if the backend is not installed.
    """
    found = _ACCUMULATE[backend](annotations, detections, classes, max_detections)
    keys = coco_keys(max_detections)
    metrics: dict[str, Any] = dict(zip(keys, _twelve(found), strict=True))
    precision = found.precision[..., -1]  # of max_detections: [T, R, K, A]
    for area, key in enumerate(("AP_by_class", *(f"AP_{size}_by_class" for size in SIZES))):
        metrics[key] = {
            name: _mean_of_defined(precision[:, :, k, area]) for k, name in enumerate(classes)
        }
    return metrics | {"curves_by_class": curves(found, classes)}


def curves(found: Accumulated, classes: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Precision over recall at an IoU of 0.5, by class, of objects of all sizes.

    `precision` and `score`, at recalls 0, 0.01, ..., 1: the best precision at that recall or
    beyond it, and the score from which on detections reach the recall; both 0 where nothing does.
    The mean of the precisions is the class's AP50. Both are empty for a class without objects.
    """
    columns = {"precision": found.precision, "score": found.scores}
    defined = found.recall[0, :, 0, -1] > -1
    return {
        name: {key: x[0, :, k, 0, -1].tolist() if defined[k] else [] for key, x in columns.items()}
        for k, name in enumerate(classes)
    }


def _twelve(found: Accumulated) -> list[float]:
    """The numbers of `coco_keys`, as COCOeval.summarize has them."""
    precision, recall = found.precision[..., -1], found.recall
    at_50_and_75 = [precision[t, :, :, 0] for t in (0, 5)]
    parts = [precision[..., 0], *at_50_and_75, *(precision[..., area] for area in (1, 2, 3))]
    parts += [recall[..., 0, kept] for kept in (0, 1, 2)]
    parts += [recall[..., area, -1] for area in (1, 2, 3)]
    return [_mean_of_defined(part) for part in parts]


def _mean_of_defined(numbers: np.ndarray) -> float:
    defined = numbers[numbers > -1]
    return float(defined.mean()) if defined.size else math.nan
