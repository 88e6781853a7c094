from collections.abc import Callable
from typing import Any

import hotcoco
import pytest

from detcenter.evaluation import coco_results


@pytest.fixture(scope="session")
def hotcoco_evaluation() -> Callable[..., Any]:
    """hotcoco's own diagnostics, of cases without difficult objects."""

    def evaluate(annotations: Any, detections: Any, classes: list[str]) -> Any:
        boxes = []
        for image in annotations:
            for box, label in zip(image["boxes"].astype(float), image["labels"], strict=True):
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": image["image_id"],
                        "category_id": int(label),
                        "bbox": [*box[:2], *(box[2:] - box[:2])],
                    }
                )
        truth = hotcoco.COCO(
            {
                "images": [{"id": a["image_id"]} for a in annotations],
                "categories": [{"id": k, "name": name} for k, name in enumerate(classes, 1)],
                "annotations": boxes,
            }
        )
        results = coco_results(annotations, detections, range(1, len(classes) + 1))
        evaluation = hotcoco.COCOeval(truth, truth.load_res(results), "bbox")
        evaluation.evaluate()
        return evaluation

    return evaluate
