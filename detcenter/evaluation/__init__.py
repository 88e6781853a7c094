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

from detcenter.evaluation.coco import Backend, coco_metrics
from detcenter.evaluation.confusion import confusion_matrix, confusions, most_confused
from detcenter.evaluation.detections import load_detections, save_detections
from detcenter.evaluation.interchange import from_supervision, to_supervision
from detcenter.evaluation.pictures import draw_boxes, side_by_side
from detcenter.evaluation.predictions import FORMATS, Prediction
from detcenter.evaluation.resampling import ResampledAP, resampled_weights
from detcenter.evaluation.results import coco_results, load_results
from detcenter.evaluation.table import confusion_table, errors_table, results_table
from detcenter.evaluation.tide import ERRORS, error_kinds, error_split
from detcenter.evaluation.voc import voc_metrics

__all__ = [
    "ERRORS",
    "FORMATS",
    "Prediction",
    "ResampledAP",
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
    "from_supervision",
    "load_detections",
    "load_results",
    "metrics_json",
    "most_confused",
    "resampled_weights",
    "results_table",
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
) -> dict[str, Any]:
    """All numbers in one dict: those of `coco_metrics` and of `voc_metrics`, and

    - `confusion`: `labels`, the classes and "background"; `matrix`, what `confusion_matrix` gives,
      as lists; the `score` that detections need to be in it
    - `errors`: what `error_split` gives
    """
    case = annotations, detections, classes
    confusion = {
        "labels": [*classes, "background"],
        "score": score,
        "matrix": confusion_matrix(*case, score=score).tolist(),
    }
    own = {"confusion": confusion, "errors": error_split(annotations, detections)}
    return coco_metrics(*case, backend) | voc_metrics(*case) | own


def flat_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers for a row of a table, out of what `evaluate_detections` returns, or nothing.

    Those that stand alone under their key, AP under `AP_by_class/<class>`, and what an error costs,
    its `dAP`, under `errors/<kind>`.
    """
    alone = {key: value for key, value in metrics.items() if isinstance(value, float)}
    by_class = {f"AP_by_class/{name}": ap for name, ap in metrics.get("AP_by_class", {}).items()}
    errors = {f"errors/{kind}": error["dAP"] for kind, error in metrics.get("errors", {}).items()}
    return alone | by_class | errors


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
    return None if isinstance(value, float) and math.isnan(value) else value
