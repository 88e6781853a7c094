"""Mean average precision as COCO and VOC define it, and pictures of what was detected.

Every function takes two parallel sequences with one mapping an image:

- `annotations`: `image_id` int, `path` Path, `width` and `height` int, `boxes` FloatTensor[M, 4]
  xyxy in pixels, `labels` [M] from 1 (0 is background and never appears), `iscrowd` and
  `difficult` bool [M], `area` [M] in square pixels.
- `detections`: `boxes` [N, 4] xyxy in pixels, `scores` [N], `labels` [N] from 1; tensors or
  arrays, in any order.

`classes` are the names without background: label k is `classes[k - 1]`. Numbers lie in [0, 1];
nan marks what is undefined because there was no ground truth to measure against.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from detcenter.evaluation.coco import Backend, coco_metrics
from detcenter.evaluation.detections import load_detections, save_detections
from detcenter.evaluation.pictures import draw_boxes, side_by_side
from detcenter.evaluation.resampling import ResampledAP, resampled_weights
from detcenter.evaluation.results import coco_results, load_results
from detcenter.evaluation.table import results_table
from detcenter.evaluation.voc import voc_metrics

__all__ = [
    "ResampledAP",
    "coco_metrics",
    "coco_results",
    "draw_boxes",
    "evaluate_detections",
    "load_detections",
    "load_results",
    "metrics_json",
    "resampled_weights",
    "results_table",
    "save_detections",
    "side_by_side",
    "voc_metrics",
]


def evaluate_detections(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    backend: Backend = "pycocotools",
) -> dict[str, Any]:
    """`coco_metrics` and `voc_metrics` in one dict; their keys do not overlap."""
    coco = coco_metrics(annotations, detections, classes, backend)
    return coco | voc_metrics(annotations, detections, classes)


def metrics_json(metrics: Mapping[str, Any]) -> str:
    """Metrics as strict JSON, where nan, which JSON does not know, becomes null."""
    return json.dumps(_nan_to_none(metrics), indent=2, allow_nan=False)


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _nan_to_none(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
