"""What is wrong with detections, after Bolya et al., TIDE: A General Toolbox for Identifying Object
Detection Errors, ECCV 2020, section 2.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detcenter.evaluation.coco import RECALLS
from detcenter.evaluation.verdicts import (
    IGNORED,
    KINDS,
    RIGHT,
    Verdicts,
    all_verdicts,
    image_verdicts,
)

ERRORS = ("cls", "loc", "both", "dupe", "bkg", "miss")


def error_split(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    foreground: float = 0.5,
    background: float = 0.1,
) -> dict[str, dict[str, float]]:
    """Every false positive and missed object by its cause, and how much AP each cause costs.

    Detections are matched class by class as COCO does, at an IoU of `foreground`. One that took
    nothing is the first of these that holds:

    - `loc`: an object of its class, but IoU only in [`background`, `foreground`)
    - `cls`: an object of another class, IoU at least `foreground`
    - `dupe`: an object of its class, IoU at least `foreground`, which a surer detection took;
      difficult ones are among these
    - `bkg`: no object with an IoU above `background`
    - `both`: an object of another class, IoU in between

    `miss` are the objects that none took and no `cls` or `loc` meant.

    Returns for each of `ERRORS` its `count` and `dAP`: how much higher AP at that IoU would be if
    the kind were mended. `both`, `dupe` and `bkg` are gone then, and `miss` need not be found. So
    are `cls` and `loc`, but for the surest of the two that meant an object which none took: it has
    that object's class or box. nan without objects.

    The order of the conditions, and one mended detection an object, are those of the paper's
    toolbox, tidecv.

    Crowd and difficult objects need not be found. A detection that takes nothing else may take one
    of its class, and is ignored then. As in COCO's AP a crowd takes any number and a difficult
    object one, so that a second on it is a `dupe`; tidecv keeps all out of AP, but counts them as
    errors. AP is COCO's, from which tidecv's differs a little, and `dAP` at 0.5 is on top of AP50;
    but all detections count, where COCO takes 100 of an image and class.

    Raises ValueError if two images share an `image_id`.
    """
    return split_of(all_verdicts(annotations, detections, foreground, background))


def split_of(found: Verdicts) -> dict[str, dict[str, float]]:
    """What `error_split` gives, of detections that are judged already."""
    missed = _missed(found)
    counts = {kind: int(np.count_nonzero(found.kinds == KINDS.index(kind))) for kind in ERRORS[:-1]}
    counts["miss"] = int(np.count_nonzero(missed))
    objects = found.objects
    mended = {
        kind: _ap(_mended(found, KINDS.index(kind)), objects, objects) for kind in ERRORS[:-1]
    }
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
    found = image_verdicts(annotation, detection, foreground, background)
    return np.array(KINDS)[found.kinds], found.targets, _missed(found)


def _missed(found: Verdicts) -> np.ndarray:
    missed = ~found.taken
    missed[found.targets[found.targets >= 0]] = False
    return missed


def _mended(found: Verdicts, kind: int) -> Verdicts:
    """Without the errors of a kind, but for those that are right when mended."""
    kinds, labels = found.kinds.copy(), found.labels.copy()
    kinds[found.kinds == kind] = IGNORED
    surest = _surest_of_free_objects(found)
    chosen = surest[found.kinds[surest] == kind]
    kinds[chosen], labels[chosen] = RIGHT, found.objects[found.targets[chosen]]
    return found._replace(kinds=kinds, labels=labels)


def _surest_of_free_objects(found: Verdicts) -> np.ndarray:
    """Of every object that none took, the surest detection that meant it."""
    meant = np.flatnonzero(found.targets >= 0)
    free = meant[~found.taken[found.targets[meant]]]
    free = free[np.argsort(-found.scores[free], kind="stable")]
    return free[np.unique(found.targets[free], return_index=True)[1]]


def _ap(found: Verdicts, objects: np.ndarray, of: np.ndarray) -> float:
    """COCO's AP at one IoU, the mean over the classes in `of`; that of one without `objects` is 0.

    `objects` and `of` are labels.
    """
    counted = np.flatnonzero(found.kinds != IGNORED)
    order = counted[np.lexsort((-found.scores[counted], found.labels[counted]))]
    labels, right = found.labels[order], found.kinds[order] == RIGHT
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
