"""Images with what is wrong in them, the worst first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detcenter.evaluation import ERRORS, error_kinds
from detcenter.evaluation.matching import objects_in, surest_first

Verdict = dict[str, list[list[Any]]]
Errors = Counter[tuple[int, int, str]]


def worst_images(
    runs: Sequence[Sequence[Mapping[str, Any]]],
    annotations: Sequence[Mapping[str, Any]],
    score: float,
    most: int,
    iou: float = 0.5,
) -> tuple[dict[int, dict[str, Any]], list[list[list[Any]]]]:
    """At most ``most`` images with errors in the detections of some run, the worst first.

    Returns them by their numbers, as JSON values: `number`, `truth` (see :func:`truth`) and `runs`
    (a :func:`verdict` each); and of each run's errors in all images how often there is each
    [label, meant, kind, count].
    """
    judged = [
        [verdict(annotation, found[i], score, iou) for found in runs]
        for i, annotation in enumerate(annotations)
    ]
    errors = [sum(map(errors_of, of_image), Counter()) for of_image in judged]
    worst = {
        i: {"number": i, "truth": truth(annotations[i]), "runs": judged[i]}
        for i in ranked(errors, most)
    }
    totals = [Errors() for _ in runs]
    for of_image in judged:
        for total, of_run in zip(totals, of_image, strict=True):
            total.update(errors_of(of_run))
    return worst, [[[*error, n] for error, n in sorted(total.items())] for total in totals]


def verdict(
    annotation: Mapping[str, Any], detection: Mapping[str, Any], score: float, iou: float = 0.5
) -> Verdict:
    """What the detections of at least ``score`` in an image are, as JSON values.

    `found` is a list of [x1, y1, x2, y2, label, score, kind, meant], boxes in pixels and `meant`
    the label that a `cls` should have had, else 0; `missed` is a list of [x1, y1, x2, y2, label].
    """
    likely = surest_first(detection, score)
    boxes, labels = objects_in(annotation)
    kinds, targets, missed = error_kinds(annotation, likely._asdict(), iou)
    meant = [int(labels[j]) if kind == "cls" else 0 for kind, j in zip(kinds, targets, strict=True)]
    found = [likely.labels.tolist(), likely.scores.round(3).tolist(), kinds.tolist(), meant]
    return {
        "found": _rows(likely.boxes, *found),
        "missed": _rows(boxes[missed], labels[missed].tolist()),
    }


def truth(annotation: Mapping[str, Any]) -> list[list[Any]]:
    """[x1, y1, x2, y2, label, ignored] of every object: whether it is a crowd or difficult."""
    ignored = np.logical_or(annotation["iscrowd"], annotation["difficult"])
    labels = np.asarray(annotation["labels"])
    return _rows(annotation["boxes"], labels.tolist(), ignored.tolist())


def errors_of(verdict: Verdict) -> Errors:
    """How often an image has an error of a class, of the class that was meant (or 0), of a kind."""
    found = [(row[4], row[7], row[6]) for row in verdict["found"] if row[6] in ERRORS]
    return Counter(found + [(row[4], 0, "miss") for row in verdict["missed"]])


def ranked(errors: Sequence[Errors], most: int) -> list[int]:
    """The numbers of at most ``most`` images, from the errors of all; those with most errors first.

    Up to half of the places go to the worst images of single errors, the rarest first, so that
    frequent ones do not crowd them out.
    """
    order = sorted((i for i, of in enumerate(errors) if of), key=lambda i: -errors[i].total())
    everywhere = sum(errors, Errors())
    examples = [
        max(order, key=lambda i: errors[i][error])
        for error, _ in reversed(everywhere.most_common())
    ]
    chosen = set(list(dict.fromkeys(examples))[: most // 2])
    chosen |= set([i for i in order if i not in chosen][: most - len(chosen)])
    return [i for i in order if i in chosen]


def _rows(boxes: Any, *columns: Sequence[Any]) -> list[list[Any]]:
    """Boxes in tenths of a pixel, and what is known of each beside it."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4).round(1).tolist()
    return [[*box, *rest] for box, *rest in zip(corners, *columns, strict=True)]
