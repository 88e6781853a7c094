"""What is wrong with detections, after Bolya et al., TIDE: A General Toolbox for Identifying Object
Detection Errors, ECCV 2020, section 2.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.evaluation.coco import RECALLS
from detcenter.evaluation.matching import (
    box_iou,
    greedy_matches,
    ignorable,
    objects_in,
    surest_first,
)

ERRORS = ("cls", "loc", "both", "dupe", "bkg", "miss")
_RIGHT, _IGNORED = "right", "ignored"


class _Verdicts(NamedTuple):
    """All images' detections, N, and objects, M."""

    scores: np.ndarray  # [N]
    labels: np.ndarray  # [N], from 1
    kinds: np.ndarray  # [N], right, ignored, or an error
    targets: np.ndarray  # [N], of cls and loc: the object that was meant, else -1
    objects: np.ndarray  # [M], labels
    taken: np.ndarray  # bool [M]


def error_split(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    foreground: float = 0.5,
    background: float = 0.1,
) -> dict[str, dict[str, float]]:
    """Every false positive and missed object by its cause, with the AP that mending it would give.

    Detections are matched class by class as COCO does, at an IoU of `foreground`. One that took
    nothing is the first of these that holds:

    - `loc`: an object of its class, but IoU only in [`background`, `foreground`)
    - `cls`: an object of another class, IoU at least `foreground`
    - `dupe`: an object of its class, IoU at least `foreground`, which a surer detection took
    - `bkg`: no object with an IoU above `background`
    - `both`: an object of another class, IoU in between

    `miss` are the objects that none took and no `cls` or `loc` meant.

    Returns for each of `ERRORS` its `count` and `dAP`: how much higher AP at that IoU would be if
    the kind were mended. `both`, `dupe` and `bkg` are gone then, and `miss` need not be found. So
    are `cls` and `loc`, but for the surest of the two that meant an object which none took: it has
    that object's class or box. nan without objects.

    The order of the conditions, and one mended detection an object, are those of the paper's
    toolbox, tidecv.

    Crowd and difficult objects are ignored, with any number of detections of their class on them,
    which tidecv keeps out of AP but counts as errors. AP is COCO's, from which tidecv's differs a
    little; but all detections count, where COCO takes 100 of an image and class.
    """
    found = _verdicts(annotations, detections, foreground, background)
    missed = _missed(found)
    counts = {kind: int(np.count_nonzero(found.kinds == kind)) for kind in ERRORS}
    counts["miss"] = int(np.count_nonzero(missed))
    objects = found.objects
    mended = {kind: _ap(_mended(found, kind), objects, objects) for kind in ERRORS[:-1]}
    mended["miss"] = _ap(found, objects[~missed], objects)
    base = _ap(found, objects, objects)
    return {kind: {"count": counts[kind], "dAP": mended[kind] - base} for kind in ERRORS}


def error_kinds(
    annotation: Mapping[str, Any],
    detection: Mapping[str, Any],
    foreground: float = 0.5,
    background: float = 0.1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `error_split` makes of one image, whose detections may be the likely ones only.

    Returns, of its N detections in order of score, their kind [N] ("right", "ignored", or one of
    `ERRORS`) and the object that a `cls` or `loc` meant [N], else -1; and whether objects are a
    `miss`, bool [M]. Objects are those that are neither crowd nor difficult.
    """
    found = _of_image(annotation, detection, foreground, background)
    return found.kinds, found.targets, _missed(found)


def _missed(found: _Verdicts) -> np.ndarray:
    missed = ~found.taken
    missed[found.targets[found.targets >= 0]] = False
    return missed


def _verdicts(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    foreground: float,
    background: float,
) -> _Verdicts:
    nothing = np.zeros(0, dtype=np.int64)
    parts = [_Verdicts(np.zeros(0), nothing, np.zeros(0, "U7"), nothing, nothing, nothing > 0)]
    first = 0  # number of this image's first object, among all images'
    for annotation, detection in zip(annotations, detections, strict=True):
        of_image = _of_image(annotation, detection, foreground, background)
        targets = np.where(of_image.targets < 0, -1, of_image.targets + first)
        parts.append(of_image._replace(targets=targets))
        first += len(of_image.objects)
    return _Verdicts(*map(np.concatenate, zip(*parts, strict=True)))


def _of_image(
    annotation: Mapping[str, Any],
    detection: Mapping[str, Any],
    foreground: float,
    background: float,
) -> _Verdicts:
    found = surest_first(detection)
    boxes, labels = objects_in(annotation)
    overlap, same = box_iou(found.boxes, boxes), found.labels[:, None] == labels
    own, other = np.where(same, overlap, -1), np.where(same, -1, overlap)
    matches = greedy_matches(own, same, foreground)
    nearest, another = own.max(axis=1, initial=-1), other.max(axis=1, initial=-1)
    conditions = {
        _RIGHT: matches >= 0,
        _IGNORED: ignorable(found, annotation, foreground, of_class=True),
        "loc": (background <= nearest) & (nearest < foreground),
        "cls": another >= foreground,
        "dupe": nearest >= foreground,
        "bkg": np.maximum(nearest, another) <= background,
    }
    kinds = np.select(list(conditions.values()), list(conditions), "both").astype("U7")
    targets = np.full(len(kinds), -1)
    for kind, overlaps in (("loc", own), ("cls", other)):
        targets[kinds == kind] = overlaps[kinds == kind].argmax(axis=1) if len(labels) else -1
    taken = np.isin(np.arange(len(labels)), matches)
    return _Verdicts(found.scores, found.labels, kinds, targets, labels, taken)


def _mended(found: _Verdicts, kind: str) -> _Verdicts:
    """Without the errors of a kind, but for those that are right when mended."""
    kinds, labels = found.kinds.copy(), found.labels.copy()
    kinds[found.kinds == kind] = _IGNORED
    surest = _surest_of_free_objects(found)
    chosen = surest[found.kinds[surest] == kind]
    kinds[chosen], labels[chosen] = _RIGHT, found.objects[found.targets[chosen]]
    return found._replace(kinds=kinds, labels=labels)


def _surest_of_free_objects(found: _Verdicts) -> np.ndarray:
    """Of every object that none took, the surest detection that meant it."""
    meant = np.flatnonzero(found.targets >= 0)
    free = meant[~found.taken[found.targets[meant]]]
    free = free[np.argsort(-found.scores[free], kind="stable")]
    return free[np.unique(found.targets[free], return_index=True)[1]]


def _ap(found: _Verdicts, objects: np.ndarray, of: np.ndarray) -> float:
    """COCO's AP at one IoU, the mean over the classes in `of`; that of one without `objects` is 0.

    `objects` and `of` are labels.
    """
    counted = np.flatnonzero(found.kinds != _IGNORED)
    order = counted[np.lexsort((-found.scores[counted], found.labels[counted]))]
    labels, right = found.labels[order], found.kinds[order] == _RIGHT
    present = np.unique(of)
    starts, ends = (np.searchsorted(labels, present, side) for side in ("left", "right"))
    values = [
        _class_ap(right[start:end], int(np.count_nonzero(objects == label)))
        for label, start, end in zip(present, starts, ends, strict=True)
    ]
    return float(np.mean(values)) if values else float("nan")


def _class_ap(right: np.ndarray, objects: int) -> float:
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    places = np.searchsorted(hits / max(objects, 1), RECALLS, side="left")
    return float(best[places].mean())
