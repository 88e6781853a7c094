"""COCO evaluation by hotcoco: pycocotools' numbers, much sooner. An optional dependency."""

from collections.abc import Iterator, Mapping, Sequence
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
from detcenter.evaluation.many import one_after_the_other

_AT_ONCE = 1_000_000  # detections


def accumulate(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    max_detections: int = 100,
) -> Accumulated:
    """COCO's precision and recall, by hotcoco.

    It takes some 400 bytes a detection, and so gets a few classes at a time where there are many.

    Raises:
        ImportError: hotcoco is not installed.
    """
    hotcoco = imported()
    kept, parts = limits(max_detections), []
    for some in _groups(detections, len(classes)):
        truth = _ground_truth(hotcoco, annotations, classes, some)
        found = truth.load_res(_predictions(annotations, detections, some))
        evaluation = hotcoco.COCOeval(truth, found, "bbox")
        evaluation.params.maxDets = kept
        evaluation.evaluate()
        evaluation.accumulate()
        parts.append(evaluation.eval)
    # [T, R, K, A, M] and [T, K, A, M]
    names = Accumulated._fields
    joined = {name: np.concatenate([part[name] for part in parts], axis=-3) for name in names}
    return accumulated(joined, kept, max_detections)


def _groups(detections: Sequence[Mapping[str, Any]], classes: int) -> list[range]:
    """The labels that are measured together, so that no group has very many detections."""
    counts = np.zeros(classes + 1, np.int64)
    for detection in detections:
        labels = Detections.of(detection).labels
        counts += np.bincount(labels, minlength=len(counts))[: len(counts)]
    starts, size = [1], 0
    for label in range(1, classes + 1):
        if size and size + counts[label] > _AT_ONCE:
            starts.append(label)
            size = 0
        size += counts[label]
    return [*map(range, starts, [*starts[1:], classes + 1])]


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
    hotcoco: Any, annotations: Sequence[Mapping[str, Any]], classes: Sequence[str], some: range
) -> Any:
    """Of the labels ``some``."""
    columns = {key: _joined([a[key] for a in annotations]) for key in ("labels", "area", "iscrowd")}
    ignored = _joined([annotation["difficult"] for annotation in annotations]).astype(bool)
    boxes = [xywh(annotation) for annotation in annotations]
    images = np.repeat(places(annotations), [len(of_image) for of_image in boxes])
    labels = columns["labels"].astype(np.int64)
    mine = (labels >= some.start) & (labels < some.stop)
    return hotcoco.COCO.from_arrays(
        [{"id": place} for place in range(len(annotations))],
        [{"id": k, "name": classes[k - 1]} for k in some],
        images[mine],
        labels[mine],
        np.concatenate([np.zeros((0, 4)), *boxes])[mine],
        area=np.where(ignored, IGNORED_AREA, columns["area"])[mine],
        iscrowd=columns["iscrowd"].astype(bool)[mine],
    )


def _predictions(
    annotations: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]], some: range
) -> np.ndarray:
    """Of the labels ``some``, [N, 7]: image, x, y, width, height, score and label."""

    def rows() -> Iterator[list[np.ndarray]]:
        for place, detection in zip(places(annotations), detections, strict=True):
            found = Detections.of(detection)
            image = np.full(len(found.scores), place)
            row = np.column_stack([image, xywh(detection), found.scores, found.labels])
            yield [row[(found.labels >= some.start) & (found.labels < some.stop)]]

    return one_after_the_other(rows(), [np.zeros((0, 7))])[0]


def _joined(parts: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *map(np.asarray, parts)])
