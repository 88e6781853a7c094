"""COCO evaluation by pycocotools, the reference: https://cocodataset.org/#detection-eval."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval, Params  # type: ignore[import-untyped]

from detcenter.evaluation.detections import (
    IGNORED_AREA,
    Accumulated,
    accumulated,
    check_lengths,
    limits,
    places,
    xywh,
)
from detcenter.evaluation.many import one_after_the_other
from detcenter.evaluation.results import coco_results

_AT_ONCE = 500  # images
_NUMBERS = 2_000_000  # in the largest array


def accumulate(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    max_detections: int = 100,
) -> Accumulated:
    """COCO's precision and recall, by pycocotools.

    It keeps a dictionary of every detection, and one of every image, class and size. So it matches
    a few images at a time, of which a few bytes a detection are kept, and then accumulates class by
    class, from what it would have put together itself.
    """
    check_lengths(annotations, detections)
    kept = limits(max_detections)
    with contextlib.redirect_stdout(io.StringIO()):
        matches = _by_class(annotations, detections, classes, kept)
        results = [_accumulated(of_class, kept) for of_class in matches]
    # [T, R, A, M] and [T, A, M] of each class; classes come before the areas.
    columns = zip(Accumulated._fields, zip(*results, strict=True), strict=True)
    joined = {name: np.stack(of_classes, axis=-3) for name, of_classes in columns}
    return accumulated(joined, kept, max_detections)


class _Matches(NamedTuple):
    """How COCO matched N detections of one class, at T IoU thresholds and for A areas."""

    scores: np.ndarray  # [N], image by image
    ranks: np.ndarray  # int32 [N], from 0, by score in its image
    matched: np.ndarray  # uint8 [N, A, T bits]
    ignored: np.ndarray  # likewise
    objects: np.ndarray  # [A], that are to be found


_AREAS, _THRESHOLDS = 4, 10


def _by_class(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    kept: Sequence[int],
) -> Iterator[_Matches]:
    """Class by class, from a few images at a time."""
    parts: list[list[_Matches]] = [[] for _ in classes]
    order = np.argsort(places(annotations)).tolist()  # COCO's order, that of equal scores
    for start in range(0, len(order), _AT_ONCE):
        images = order[start : start + _AT_ONCE]
        evaluation = _evaluation(
            [annotations[i] for i in images], [detections[i] for i in images], classes
        )
        evaluation.params.maxDets = kept
        evaluation.evaluate()
        found = iter(evaluation.evalImgs)
        for of_class in parts:
            areas = [[*islice(found, len(images))] for _ in range(_AREAS)]
            of_class += _packed([[e for e in area if e is not None] for area in areas])
    flags = np.zeros((0, _AREAS, 2), np.uint8)
    empty = np.zeros(0), np.zeros(0, np.int32), flags, flags
    while parts:
        of_class = parts.pop(0)
        objects = sum((part.objects for part in of_class), np.zeros(_AREAS, int))
        columns = one_after_the_other((part[:4] for part in of_class), empty)
        scores, ranks, matched, ignored = columns
        yield _Matches(scores, ranks, matched, ignored, objects)


def _packed(areas: Sequence[Sequence[Mapping[str, Any]]]) -> list[_Matches]:
    """What COCO says of some images, area by area; nothing of no image."""
    if not areas[0]:
        return []
    matched, ignored = (
        np.stack([_bits([image[key] for image in area]) for area in areas], axis=1)
        for key in ("dtMatches", "dtIgnore")
    )
    scores = [np.array(image["dtScores"], float) for image in areas[0]]
    ranks = np.concatenate([np.arange(len(of_image), dtype=np.int32) for of_image in scores])
    objects = [sum(np.count_nonzero(image["gtIgnore"] == 0) for image in area) for area in areas]
    return [_Matches(np.concatenate(scores), ranks, matched, ignored, np.array(objects))]


def _bits(of_images: Sequence[Any]) -> np.ndarray:
    """uint8 [N, 2], from numbers [T, n] of each image that are zero or not."""
    numbers = [np.asarray(x).reshape(_THRESHOLDS, -1) for x in of_images]
    return np.packbits(np.concatenate(numbers, axis=1).astype(bool), axis=0).T


def _accumulated(found: _Matches, kept: Sequence[int]) -> Accumulated:
    """Of one class, with the dimensions of areas and limits, but without one of classes."""
    shape = _THRESHOLDS, len(Params("bbox").recThrs), _AREAS, len(kept)
    result = Accumulated(-np.ones(shape), -np.ones(shape[:1] + shape[2:]), -np.ones(shape))
    for area, limit in np.ndindex(shape[2:]):
        chosen = found.ranks < kept[limit]
        scores = found.scores[chosen]
        matched, ignored = (
            np.unpackbits(bits[chosen, area], axis=1, count=_THRESHOLDS).T
            for bits in (found.matched, found.ignored)
        )
        rows = max(1, _NUMBERS // max(1, len(scores)))
        for start in range(0, _THRESHOLDS, rows):
            some = slice(start, start + rows)
            image = {
                "dtScores": scores,
                "dtMatches": matched[some],
                "dtIgnore": ignored[some],
                "gtIgnore": np.zeros(found.objects[area]),
            }
            for mine, values in zip(result, _of_one_image(image), strict=True):
                mine[some, ..., area, limit] = values
    return result


def _of_one_image(image: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision [T, R], recall [T] and scores [T, R], as pycocotools accumulates them."""
    evaluation = COCOeval(iouType="bbox")
    evaluation.evalImgs, params = [image], evaluation.params
    params.catIds, params.imgIds, params.areaRng = [1], [0], params.areaRng[:1]
    params.iouThrs = params.iouThrs[: len(image["dtMatches"])]
    params.maxDets = [max(1, len(image["dtScores"]))]
    evaluation._paramsEval = params
    evaluation.accumulate()
    precision, recall, scores = (evaluation.eval[name] for name in Accumulated._fields)
    return precision[..., 0, 0, 0], recall[..., 0, 0, 0], scores[..., 0, 0, 0]


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
