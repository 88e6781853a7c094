"""From what witnesses say of every box to a list of suspects, the worst first."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from scipy.special import softmax  # type: ignore[import-untyped]

from detcenter.audit.boxes import Missing, Placement
from detcenter.audit.classes import Opinions, mixed, wrong_label_scores

Kind = Literal["wrong label", "surplus", "badly placed", "missing"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_NEARLY_NONE = 0.05  # probability of an object, at which a wrong label counts half
_PRIOR = 0.05  # share of boxes that are taken to be wrong before anything is known of them

Corners = tuple[float, float, float, float]


class Annotated(NamedTuple):
    """N annotated boxes that were looked at."""

    images: np.ndarray  # [N], the positions of their images in the data set
    numbers: np.ndarray  # [N], their own among the boxes of their image, from 0
    boxes: np.ndarray  # [N, 4], xyxy in pixels
    labels: np.ndarray  # [N] as annotated, from 1


class Witnesses(NamedTuple):
    """What is known of N annotated boxes from detectors that have not seen them."""

    logits: np.ndarray  # [N, C + 1] of the boxes themselves; column 0 is background
    opinions: Opinions  # on their classes
    placement: Placement  # by what was detected at and around them
    seen: np.ndarray  # int [C], how many boxes of each class the detectors have learnt from


class BoxScores(NamedTuple):
    """How probably each of N annotated boxes is wrong, in 0..1, and which label would be right."""

    wrong_label: np.ndarray
    surplus: np.ndarray
    badly_placed: np.ndarray
    better_labels: np.ndarray  # [N], from 1


class Suspect(NamedTuple):
    """An annotated box with which something is probably wrong, or one that is not annotated."""

    kind: Kind
    score: float  # in 0..1; the order within a kind means more than that between kinds
    image: int  # its position in the data set
    box: Corners  # xyxy in pixels, as annotated; of a missing one, as detected
    label: int | None  # as annotated; None of a missing box
    better_label: int | None
    better_box: Corners | None
    reason: str
    position: int | None  # among the boxes that were looked at; None of a missing one
    number: int | None  # among the boxes of its image, from 0; likewise


def box_scores(labels: np.ndarray, said: Witnesses) -> BoxScores:
    """Put together what witnesses say of N boxes with these labels [N], from 1.

    There is an object at a box as probably (t) as the classifier says of the box itself, or as the
    surest detection there says, whichever is more.

    - wrong label: as probable as a better label is (`wrong_label_scores`, of the three witnesses'
      mixed opinion), less where there is nearly surely no object: times 1.05 t / (t + 0.05).
    - surplus: 1 - t.
    - badly placed: see `placement`.

    Who annotated is a witness too: the odds of a wrong label, and of a surplus box, are multiplied
    with 0.05 / 0.95, as if one box in twenty were wrong. That changes no order within a kind.
    Nothing is said, by scores of 0, of a class that the detectors have never seen.
    """
    wrong, better = wrong_label_scores(mixed(said.opinions), labels)
    there, known = _there(said), said.seen[labels - 1] > 0
    wrong = wrong * (1 + _NEARLY_NONE) * there / (there + _NEARLY_NONE)
    misplaced = known * said.placement.misplaced
    return BoxScores(known * _doubted(wrong), known * _doubted(1 - there), misplaced, better)


def suspects_in(
    annotated: Annotated,
    said: Witnesses,
    missing: Missing,
    names: Sequence[str],
    least: float = 0.1,
) -> list[Suspect]:
    """All suspects with a score of ``least`` or more, the worst first.

    An annotated box may be suspect in several ways. The odds of a missing box are those of its
    detection times 0.05 / 0.95, as in `box_scores`. ``names`` are those of the labels from 1.
    """
    found = [*_annotated_suspects(annotated, said, names, least)]
    found += [x for x in _missing_suspects(missing, names) if x.score >= least]
    return sorted(found, key=lambda suspect: -suspect.score)


def _annotated_suspects(
    annotated: Annotated, said: Witnesses, names: Sequence[str], least: float
) -> Iterator[Suspect]:
    scores, there, place = box_scores(annotated.labels, said), _there(said), said.placement

    def suspect(n: int, kind: Kind, score: float, reason: str, **better: Any) -> Suspect:
        image, label = int(annotated.images[n]), int(annotated.labels[n])
        given = {"better_label": None, "better_box": None} | better
        box = _corners(annotated.boxes[n])
        number = int(annotated.numbers[n])
        return Suspect(
            kind, score, image, box, label, **given, reason=reason, position=n, number=number
        )

    for n in np.flatnonzero(scores.wrong_label >= least).tolist():
        label, better = int(annotated.labels[n]), int(scores.better_labels[n])
        reason = _on_labels(said.opinions, n, label, better, names)
        yield suspect(n, "wrong label", float(scores.wrong_label[n]), reason, better_label=better)
    for n in np.flatnonzero(scores.surplus >= least).tolist():
        reason = f"probability of an object there: {there[n]:.2f}"
        yield suspect(n, "surplus", float(scores.surplus[n]), reason)
    for n in np.flatnonzero(scores.badly_placed >= least).tolist():
        reason = (
            f"detected at {place.scores[n]:.2f} where the IoU with the box is {place.iou[n]:.2f}"
        )
        better_box = _corners(place.better[n])
        score = float(scores.badly_placed[n])
        yield suspect(n, "badly placed", score, reason, better_box=better_box)


def _missing_suspects(missing: Missing, names: Sequence[str]) -> Iterator[Suspect]:
    columns = missing.images, missing.scores, missing.labels, _doubted(missing.scores)
    rows = zip(*(column.tolist() for column in columns), missing.boxes, strict=True)
    for image, detected, label, score, box in rows:
        corners = _corners(box)
        reason = f"{names[label - 1]} detected at {detected:.2f}, where nothing is annotated"
        yield Suspect("missing", score, image, corners, None, label, corners, reason, None, None)


def _doubted(probability: np.ndarray) -> np.ndarray:
    wrong, right = probability * _PRIOR, (1 - probability) * (1 - _PRIOR)
    doubted: np.ndarray = wrong / (wrong + right)
    return doubted


def _there(said: Witnesses) -> np.ndarray:
    """How probably an object is at each box, [N]."""
    itself = 1 - softmax(np.asarray(said.logits, np.float64), axis=1)[:, 0]
    there: np.ndarray = np.maximum(itself, said.placement.support)
    return there


def _on_labels(opinions: Opinions, n: int, label: int, better: int, names: Sequence[str]) -> str:
    said = [
        f"{witness} {np.exp(opinion[n, better - 1]):.2f} to {np.exp(opinion[n, label - 1]):.2f}"
        for witness, opinion in zip(opinions._fields, opinions, strict=True)
    ]
    return f"{names[better - 1]} rather than {names[label - 1]}: {', '.join(said)}"


def _corners(box: np.ndarray) -> Corners:
    x1, y1, x2, y2 = np.asarray(box, np.float64).tolist()
    return x1, y1, x2, y2
