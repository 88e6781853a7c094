"""COCO result files: a JSON list with an object a detection."""

from collections.abc import Mapping, Sequence
from typing import Any

from detcenter.evaluation.detections import Detections, xywh


def coco_results(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    category_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """Detections in COCO's result format, ready for `json.dump`.

    Label k becomes `category_ids[k - 1]`; `bbox` is [x, y, width, height] in pixels.
    """
    rows = []
    for annotation, detection in zip(annotations, detections, strict=True):
        found = Detections.of(detection)
        for box, score, label in zip(
            xywh(found.boxes).tolist(), found.scores, found.labels, strict=True
        ):
            rows.append(
                {
                    "image_id": int(annotation["image_id"]),
                    "category_id": int(category_ids[label - 1]),
                    "bbox": box,
                    "score": float(score),
                }
            )
    return rows
