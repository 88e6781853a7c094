"""COCO evaluation by pycocotools, the reference: https://cocodataset.org/#detection-eval."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from detcenter.evaluation.detections import (
    IGNORED_AREA,
    Accumulated,
    accumulated,
    limits,
    places,
    xywh,
)
from detcenter.evaluation.results import coco_results


def accumulate(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    max_detections: int = 100,
) -> Accumulated:
    """COCO's precision and recall, by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(annotations, detections, classes)
        evaluation.params.maxDets = kept = limits(max_detections)
        evaluation.evaluate()
        evaluation.accumulate()
    return accumulated(evaluation.eval, kept, max_detections)


def image_matches(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    max_detections: int = 100,
) -> list[list[dict[str, np.ndarray]]]:
    """How COCO matches the detections of each class in each image, class by class.

    Of each image: `scores` [N], at most `max_detections`; `matched` and `ignored` bool [T, N] at
    the T IoU thresholds from 0.5 to 0.95; `objects`, the number of boxes to be found.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(annotations, detections, classes)
        evaluation.params.areaRng = evaluation.params.areaRng[:1]  # all sizes
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
    images, thresholds = len(annotations), len(evaluation.params.iouThrs)
    by_class = [evaluation.evalImgs[k * images : (k + 1) * images] for k in range(len(classes))]
    return [
        [_matches(of_class[place], thresholds) for place in places(annotations)]
        for of_class in by_class
    ]


def _matches(image: Mapping[str, Any] | None, thresholds: int) -> dict[str, np.ndarray]:
    if image is None:  # neither objects nor detections
        nothing = np.zeros((thresholds, 0), dtype=bool)
        return {"scores": np.zeros(0), "matched": nothing, "ignored": nothing,
                "objects": np.array(0)}  # fmt: skip
    return {
        "scores": np.array(image["dtScores"]),
        "matched": np.asarray(image["dtMatches"]).reshape(thresholds, -1) > 0,
        "ignored": np.asarray(image["dtIgnore"]).reshape(thresholds, -1).astype(bool),
        "objects": np.array(np.count_nonzero(np.asarray(image["gtIgnore"]) == 0)),
    }


def _evaluation(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
) -> COCOeval:
    truth = _ground_truth(annotations, classes)
    found = _predictions(truth, annotations, detections, classes)
    return COCOeval(_indexed(truth), _indexed(found), "bbox")


def _ground_truth(
    annotations: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> dict[str, Any]:
    pairs = zip(places(annotations), annotations, strict=True)
    boxes = (box for place, annotation in pairs for box in _boxes_of(annotation, place))
    return {
        # pycocotools goes through the images in the order of their ids.
        "images": [{"id": place} for place in range(len(annotations))],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes, start=1)],
        # Ids start at 1: COCOeval reads a match with id 0 as no match.
        "annotations": [{"id": i} | box for i, box in enumerate(boxes, start=1)],
    }


def _boxes_of(annotation: Mapping[str, Any], place: int) -> Iterator[dict[str, Any]]:
    for i, bbox in enumerate(xywh(annotation).tolist()):
        yield {
            "image_id": place,
            "category_id": int(annotation["labels"][i]),
            "bbox": bbox,
            "area": IGNORED_AREA if annotation["difficult"][i] else float(annotation["area"][i]),
            "iscrowd": int(annotation["iscrowd"][i]),
        }


def _predictions(
    truth: dict[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
) -> dict[str, Any]:
    # What COCO.loadRes makes of a result file; loadRes itself fails on an empty list.
    images = [{"image_id": place} for place in places(annotations)]
    rows = coco_results(images, detections, range(1, len(classes) + 1))
    for i, row in enumerate(rows, start=1):
        row |= {"id": i, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
    return truth | {"annotations": rows}


def _indexed(dataset: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco
