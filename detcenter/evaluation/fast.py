"""COCO evaluation by hotcoco: pycocotools' numbers, much sooner. An optional dependency."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detcenter.evaluation.detections import (
    IGNORED_AREA,
    Accumulated,
    Detections,
    accumulated,
    limits,
    places,
    xywh,
)


def accumulate(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    max_detections: int = 100,
) -> Accumulated:
    """COCO's precision and recall, by hotcoco.

    Raises:
        ImportError: hotcoco is not installed.
    """
    hotcoco = imported()
    truth = _ground_truth(hotcoco, annotations, classes)
    found = truth.load_res(_predictions(annotations, detections))
    evaluation = hotcoco.COCOeval(truth, found, "bbox")
    evaluation.params.maxDets = kept = limits(max_detections)
    evaluation.evaluate()
    evaluation.accumulate()
    return accumulated(evaluation.eval, kept, max_detections)


def imported() -> Any:
    """The package hotcoco.

    Raises:
        ImportError: it is not installed; the message says how to go on.
    """
    try:
        import hotcoco
    except ImportError:
        raise ImportError(
            "the backend hotcoco needs hotcoco: pip install 'detcenter[fast]'; pycocotools gives "
            "the same numbers"
        ) from None
    return hotcoco


def _ground_truth(
    hotcoco: Any, annotations: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> Any:
    columns = {key: _joined([a[key] for a in annotations]) for key in ("labels", "area", "iscrowd")}
    ignored = _joined([annotation["difficult"] for annotation in annotations]).astype(bool)
    boxes = [xywh(annotation) for annotation in annotations]
    return hotcoco.COCO.from_arrays(
        [{"id": place} for place in range(len(annotations))],
        [{"id": k, "name": name} for k, name in enumerate(classes, start=1)],
        np.repeat(places(annotations), [len(of_image) for of_image in boxes]),
        columns["labels"].astype(np.int64),
        np.concatenate([np.zeros((0, 4)), *boxes]),
        area=np.where(ignored, IGNORED_AREA, columns["area"]),
        iscrowd=columns["iscrowd"].astype(bool),
    )


def _predictions(
    annotations: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """[N, 7]: image, x, y, width, height, score and label."""
    rows = np.empty((sum(len(detection["labels"]) for detection in detections), 7))
    start = 0
    for place, detection in zip(places(annotations), detections, strict=True):
        found = Detections.of(detection)
        mine = rows[start : start + len(found.labels)]
        mine[:, 0], mine[:, 1:5] = place, xywh(detection)
        mine[:, 5], mine[:, 6] = found.scores, found.labels
        start += len(mine)
    return rows


def _joined(parts: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *map(np.asarray, parts)])
