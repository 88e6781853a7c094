"""The twelve COCO numbers, by pycocotools: https://cocodataset.org/#detection-eval."""

import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from detcenter.evaluation.detections import Detections

COCO_KEYS = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision


def coco_metrics(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
) -> dict[str, Any]:
    """COCO average precision and recall, at most 100 detections an image and class.

    Crowd boxes are ignored as COCO does: any number of detections may match one, by the share of
    the detection that lies inside. Difficult boxes are ignored too, but with the ordinary IoU and
    for one detection each.

    Returns the twelve numbers under `COCO_KEYS`, and `AP_by_class`, a dict from name to AP; nan
    where no ground truth makes a number undefined (pycocotools says -1).

    Raises ValueError if two images share an `image_id` or the two sequences differ in length.
    """
    truth = _ground_truth(annotations, classes)
    found = _predictions(truth, annotations, detections, classes)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _DifficultCOCOeval(_indexed(truth), _indexed(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics: dict[str, Any] = dict(
        zip(COCO_KEYS, (_nan_if_undefined(x) for x in evaluation.stats), strict=True)
    )
    precision = evaluation.eval["precision"]  # [IoU, recall, class, area range, detections kept]
    metrics["AP_by_class"] = {
        name: _mean_of_defined(precision[:, :, k, 0, -1]) for k, name in enumerate(classes)
    }
    return metrics


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
        for box, score, label in zip(_xywh(found.boxes), found.scores, found.labels, strict=True):
            rows.append(
                {
                    "image_id": int(annotation["image_id"]),
                    "category_id": int(category_ids[label - 1]),
                    "bbox": box,
                    "score": float(score),
                }
            )
    return rows


def image_matches(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
) -> list[list[dict[str, np.ndarray]]]:
    """How COCO matches the detections of each class in each image, class by class.

    Of each image: `scores` [N], at most 100; `matched` and `ignored` bool [T, N] at the T IoU
    thresholds from 0.5 to 0.95; `objects`, the number of boxes to be found.
    """
    truth = _ground_truth(annotations, classes)
    found = _predictions(truth, annotations, detections, classes)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _DifficultCOCOeval(_indexed(truth), _indexed(found), "bbox")
        evaluation.params.areaRng = evaluation.params.areaRng[:1]  # all sizes
        evaluation.evaluate()
    images, thresholds = len(annotations), len(evaluation.params.iouThrs)
    # pycocotools goes through the images in the order of their ids.
    ids = [int(annotation["image_id"]) for annotation in annotations]
    place = {image_id: number for number, image_id in enumerate(sorted(ids))}
    by_class = [evaluation.evalImgs[k * images : (k + 1) * images] for k in range(len(classes))]
    return [
        [_matches(of_class[place[image_id]], thresholds) for image_id in ids]
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


class _DifficultCOCOeval(COCOeval):  # type: ignore[misc]
    """COCOeval that also ignores what is marked `difficult`."""

    def _prepare(self) -> None:
        super()._prepare()  # overwrites every `ignore` with `iscrowd`
        for boxes in self._gts.values():
            for box in boxes:
                box["ignore"] = box["ignore"] or box["difficult"]


def _ground_truth(
    annotations: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> dict[str, Any]:
    boxes = (box for annotation in annotations for box in _boxes_of(annotation))
    return {
        "images": [{"id": image_id} for image_id in _image_ids(annotations)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes, start=1)],
        # Ids start at 1: COCOeval reads a match with id 0 as no match.
        "annotations": [{"id": i} | box for i, box in enumerate(boxes, start=1)],
    }


def _image_ids(annotations: Sequence[Mapping[str, Any]]) -> list[int]:
    ids = [int(annotation["image_id"]) for annotation in annotations]
    if len(set(ids)) < len(ids):
        twice = next(i for n, i in enumerate(ids) if i in ids[:n])
        raise ValueError(f"image_id {twice} appears more than once")
    return ids


def _boxes_of(annotation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for i, bbox in enumerate(_xywh(annotation["boxes"])):
        yield {
            "image_id": int(annotation["image_id"]),
            "category_id": int(annotation["labels"][i]),
            "bbox": bbox,
            "area": float(annotation["area"][i]),
            "iscrowd": int(annotation["iscrowd"][i]),
            "difficult": int(annotation["difficult"][i]),
        }


def _predictions(
    truth: dict[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
) -> dict[str, Any]:
    # What COCO.loadRes makes of a result file; loadRes itself fails on an empty list.
    rows = coco_results(annotations, detections, range(1, len(classes) + 1))
    for i, row in enumerate(rows, start=1):
        row |= {"id": i, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
    return truth | {"annotations": rows}


def _indexed(dataset: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _xywh(boxes: Any) -> list[list[float]]:
    xyxy = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    rows: list[list[float]] = np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]]).tolist()
    return rows


def _nan_if_undefined(number: float) -> float:
    return math.nan if number == -1 else float(number)


def _mean_of_defined(precision: np.ndarray) -> float:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else math.nan
