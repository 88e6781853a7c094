"""What every detection is: right, ignored, or an error of some kind."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.evaluation.detections import Detections, check_lengths, places
from detcenter.evaluation.many import one_after_the_other
from detcenter.evaluation.matching import (
    box_iou,
    greedy_matches,
    ignored_overlap,
    objects_in,
    surest_first,
)

KINDS = ("right", "ignored", "loc", "cls", "dupe", "bkg", "both")
RIGHT, IGNORED = range(2)  # their places there


class Verdicts(NamedTuple):
    """What became of detections, N, and objects, M, of one image or of several."""

    scores: np.ndarray  # [N]
    labels: np.ndarray  # [N], from 1
    kinds: np.ndarray  # int8 [N], places in KINDS
    targets: np.ndarray  # [N], of cls and loc: the object that was meant, else -1
    objects: np.ndarray  # [M], labels
    taken: np.ndarray  # bool [M]


def all_verdicts(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    foreground: float = 0.5,
    background: float = 0.1,
) -> Verdicts:
    """Of all images, in the order of their ids; see `error_split` for the kinds."""
    check_lengths(annotations, detections)

    def images() -> Iterator[Verdicts]:
        first = 0  # number of this image's first object, among all images'
        for i in np.argsort(places(annotations)).tolist():  # COCO's order, that of equal scores
            of_image = image_verdicts(annotations[i], detections[i], foreground, background)
            targets = np.where(of_image.targets < 0, -1, of_image.targets + first)
            yield of_image._replace(targets=targets)
            first += len(of_image.objects)

    whole = np.zeros(0, dtype=np.int64)
    empty = Verdicts(np.zeros(0), whole, whole.astype(np.int8), whole, whole, whole > 0)
    return Verdicts(*one_after_the_other(images(), empty))


def image_verdicts(
    annotation: Mapping[str, Any],
    detection: Mapping[str, Any],
    foreground: float = 0.5,
    background: float = 0.1,
) -> Verdicts:
    """Of one image, its detections in order of score."""
    found = surest_first(detection)
    boxes, labels = objects_in(annotation)
    overlap, same = box_iou(found.boxes, boxes), found.labels[:, None] == labels
    own, other = np.where(same, overlap, -1), np.where(same, -1, overlap)
    matches = greedy_matches(own, same, foreground)
    right = matches >= 0
    ignored, on_ignored = _ignored(found, annotation, foreground, ~right)
    nearest = np.maximum(own.max(axis=1, initial=-1), on_ignored)
    another = other.max(axis=1, initial=-1)
    conditions = {
        "right": right,
        "ignored": ignored,
        "loc": (background <= nearest) & (nearest < foreground),
        "cls": another >= foreground,
        "dupe": nearest >= foreground,
        "bkg": np.maximum(nearest, another) <= background,
    }
    chosen = [np.int8(KINDS.index(kind)) for kind in conditions]
    kinds = np.select(list(conditions.values()), chosen, np.int8(KINDS.index("both")))
    targets = np.full(len(kinds), -1)
    for kind, overlaps in (("loc", own), ("cls", other)):
        mine = kinds == KINDS.index(kind)
        targets[mine] = overlaps[mine].argmax(axis=1) if len(labels) else -1
    taken = np.isin(np.arange(len(labels)), matches)
    return Verdicts(found.scores, found.labels, kinds, targets, labels, taken)


def _ignored(
    found: Detections, annotation: Mapping[str, Any], foreground: float, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the ``free`` detections, bool [N], something ignored of their class takes.

    As COCO has it, a difficult object takes one and a crowd any number. Returned beside it is the
    overlap [N] with what is ignored where it is at least ``foreground``, else -1.
    """
    same = found.labels[:, None] == np.asarray(annotation["labels"])
    overlap = np.where(same & free[:, None], ignored_overlap(found, annotation), -1)
    crowd = np.asarray(annotation["iscrowd"], bool)
    matches = greedy_matches(overlap, same, foreground, many=crowd)
    most = overlap.max(axis=1, initial=-1)
    return matches >= 0, np.where(most >= foreground, most, -1)
