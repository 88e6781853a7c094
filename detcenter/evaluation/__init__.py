"""Mean average precision as COCO and VOC define it, what is confused, and pictures of detections.

Every function takes two parallel sequences with one mapping an image:

- `annotations`: `image_id` int or text, `path` Path, `width` and `height` int, `boxes` float64
  [M, 4] xyxy in pixels, `labels` [M] from 1 (0 is background and never appears), `iscrowd` and
  `difficult` bool [M], `area` [M] in square pixels.
- `detections`: `boxes` [N, 4] xyxy in pixels, `scores` [N], `labels` [N] from 1; tensors or
  arrays, in any order.

What was read from files of COCO's may have `bbox` float64 [.., 4] too: x, y, width and height as
they stand there, which COCO's numbers are then computed from.

`classes` are the names without background: label k is `classes[k - 1]`. Numbers lie in [0, 1];
nan marks what is undefined because there was no ground truth to measure against.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detcenter.evaluation.calibration import calibration
from detcenter.evaluation.coco import Backend, coco_metrics
from detcenter.evaluation.confusion import (
    confusion_matrix,
    confusions,
    most_confused,
    nothing_confused,
)
from detcenter.evaluation.detections import load_detections, save_detections
from detcenter.evaluation.frequency import ap_by_frequency, frequency_groups, groups_in
from detcenter.evaluation.interchange import from_supervision, to_supervision
from detcenter.evaluation.limits import limit_remarks
from detcenter.evaluation.many import ManyDetections
from detcenter.evaluation.open_set import open_set_metrics, right_detections
from detcenter.evaluation.pictures import draw_boxes, side_by_side
from detcenter.evaluation.predictions import FORMATS, Prediction
from detcenter.evaluation.resampling import ResampledAP, resampled_weights
from detcenter.evaluation.results import coco_results, load_results
from detcenter.evaluation.table import (
    calibration_line,
    confusion_table,
    errors_table,
    results_table,
)
from detcenter.evaluation.thresholds import best_threshold
from detcenter.evaluation.tide import ERRORS, error_kinds, error_split, split_of
from detcenter.evaluation.verdicts import IGNORED, RIGHT, Verdicts, all_verdicts
from detcenter.evaluation.voc import voc_metrics

__all__ = [
    "ERRORS",
    "FORMATS",
    "ManyDetections",
    "Prediction",
    "ResampledAP",
    "ap_by_frequency",
    "best_threshold",
    "calibration",
    "calibration_line",
    "coco_metrics",
    "coco_results",
    "confusion_matrix",
    "confusion_table",
    "confusions",
    "draw_boxes",
    "error_kinds",
    "error_split",
    "errors_table",
    "evaluate_detections",
    "flat_numbers",
    "frequency_groups",
    "groups_in",
    "limit_remarks",
    "from_supervision",
    "load_detections",
    "load_results",
    "metrics_json",
    "most_confused",
    "nothing_confused",
    "open_set_metrics",
    "resampled_weights",
    "results_table",
    "right_detections",
    "save_detections",
    "side_by_side",
    "to_supervision",
    "voc_metrics",
]


def evaluate_detections(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    backend: Backend = "pycocotools",
    score: float = 0.5,
    max_detections: int = 100,
    iou: float = 0.5,
    frequency: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """All numbers in one dict: those of `coco_metrics` and of `voc_metrics`, and

    - `AP_rare`, `AP_common` and `AP_frequent`, see `ap_by_frequency`
    - `confusion`: `labels`, the classes and "background"; `matrix`, what `confusion_matrix` gives,
      as lists; the `score` that detections need to be in it
    - `errors`: what `error_split` gives
    - `best_by_class`: what `best_threshold` gives, class by class
    - `calibration`: what the function of that name gives
    - `settings`: `max_detections`, `iou` and `score`

    Thresholds and calibration are of detections matched as in `error_split`: class by class, those
    that a crowd or a difficult object takes left out.

    Args:
        max_detections: how many of an image and class COCO's numbers count.
        iou: with its object, from which on a detection is right in all but COCO's numbers.
        frequency: the group of each class, see `frequency_groups`.
    """
    case = annotations, detections, classes
    coco, found = coco_metrics(*case, backend, max_detections), all_verdicts(*case[:2], iou)
    counted = found.kinds != IGNORED
    return {
        **coco,
        **ap_by_frequency(coco["AP_by_class"], frequency or {}),
        **voc_metrics(*case, iou),
        "confusion": {
            "labels": [*classes, "background"],
            "score": score,
            "matrix": confusion_matrix(*case, iou, score).tolist(),
        },
        "errors": split_of(found),
        "best_by_class": _best_by_class(found, classes),
        "calibration": calibration(found.scores[counted], found.kinds[counted] == RIGHT),
        "settings": {"max_detections": max_detections, "iou": iou, "score": score},
    }


def _best_by_class(found: Verdicts, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    best = {}
    for label, name in enumerate(classes, start=1):
        mine = (found.labels == label) & (found.kinds != IGNORED)
        objects = int(np.count_nonzero(found.objects == label))
        best[name] = best_threshold(found.scores[mine], found.kinds[mine] == RIGHT, objects)
    return best


def flat_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers for a row of a table, out of what `evaluate_detections` returns, or nothing.

    Those that stand alone under their key, AP under `AP_by_class/<class>`, what an error costs, its
    `dAP`, under `errors/<kind>`, and `calibration_error`.
    """
    alone = {key: value for key, value in metrics.items() if isinstance(value, float)}
    by_class = {f"AP_by_class/{name}": ap for name, ap in metrics.get("AP_by_class", {}).items()}
    errors = {f"errors/{kind}": error["dAP"] for kind, error in metrics.get("errors", {}).items()}
    calibrated = metrics.get("calibration")
    calibration_error = {"calibration_error": calibrated["error"]} if calibrated else {}
    return alone | by_class | errors | calibration_error


def metrics_json(metrics: Mapping[str, Any]) -> str:
    """Metrics as strict JSON, where nan, which JSON does not know, becomes null.

    A line for every number and every list of numbers.
    """
    return _lines(_nan_to_none(metrics))


def _lines(value: Any, indent: str = "\n") -> str:
    inner = indent + "  "
    if isinstance(value, Mapping):
        items = [f"{json.dumps(key)}: {_lines(x, inner)}" for key, x in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{indent}}}" if items else "{}"
    if isinstance(value, list) and any(isinstance(x, list) for x in value):
        return f"[{inner}{f',{inner}'.join(_lines(x, inner) for x in value)}{indent}]"
    return json.dumps(value, allow_nan=False)


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _nan_to_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_nan_to_none(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
