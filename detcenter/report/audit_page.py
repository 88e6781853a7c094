"""The suspects of an audit as a page on which a person decides about one after another."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detcenter.report.crops import Cut, cut_out
from detcenter.report.rendering import rendered

_Box = tuple[float, ...]
_VIEW = 2.4  # side of the picture of a suspect by the longer side of its boxes
_LEAST = 48  # pixels of the image, that the side is at least
_AROUND = 1.3  # side of a neighbour's picture by the longer side of its box
_LARGE, _SMALL = 320, 72  # pixels of a suspect's picture, at most, and of a neighbour's


class Entry(NamedTuple):
    """A suspect, and what a person sees beside it."""

    kind: str
    score: float
    path: Path
    image: str  # its name for people, and for who reads the decisions
    number: int | None  # of the box in its image, from 0; None of a missing one
    box: _Box
    label: str | None
    better_label: str | None
    better_box: _Box | None
    reason: str
    of_label: Sequence[tuple[Path, _Box]]  # boxes that look like it and bear the label
    of_better: Sequence[tuple[Path, _Box]]  # and such that bear the better one


def audit_page(
    title: str,
    data: Mapping[str, Any],
    classes: Sequence[str],
    entries: Sequence[Entry],
    image: Callable[[Path], np.ndarray],
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> str:
    """HTML that opens without network, with the entries in their order, a picture each.

    Decisions stay in the browser, under a name made of ``data``, and are downloaded as
    ``decisions.json``; docs/audit.md says what is in it. It needs Jinja2.

    Args:
        data: how the data set is read, which the decisions say too.
        image: from a path to pixels, uint8 [H, W, 3].
        progress: gets the images that are shown, and gives them on one by one.
    """
    rows = [_row(entry) for entry in entries]
    key = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]
    pictures = cut_out(_wanted(entries), image, progress)
    for row, entry in zip(rows, entries, strict=True):
        row["frame"] = _frame(entry)
        # A suspect without a picture can still be decided on.
        row["picture"] = pictures.get((entry.path, _large(entry)))
        for name, others in (("of_label", entry.of_label), ("of_better", entry.of_better)):
            found = (pictures.get((path, _small(box))) for path, box in others)
            row[name] = [uri for uri in found if uri]
    shown = {"audit": key, "data": data, "classes": list(classes), "suspects": rows}
    return rendered("audit", shown, title=title)


def _row(entry: Entry) -> dict[str, Any]:
    keys = (
        "kind",
        "score",
        "image",
        "number",
        "box",
        "label",
        "better_label",
        "better_box",
        "reason",
    )
    return {key: getattr(entry, key) for key in keys}


def _frame(entry: Entry) -> _Box:
    """The square that is shown, xyxy, around the box and where it should lie."""
    corners = np.array([entry.box, entry.better_box or entry.box])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    side = max(_LEAST, _VIEW * float((high - low).max()))
    x, y = ((low + high - side) / 2).tolist()
    return x, y, x + side, y + side


def _wanted(entries: Sequence[Entry]) -> dict[Path, list[Cut]]:
    """What is cut out of every image."""
    wanted: dict[Path, list[Cut]] = {}
    for entry in entries:
        wanted.setdefault(entry.path, []).append(_large(entry))
        for path, box in (*entry.of_label, *entry.of_better):
            wanted.setdefault(path, []).append(_small(box))
    return wanted


def _large(entry: Entry) -> Cut:
    """The frame, with not more pixels than the image has."""
    frame = _frame(entry)
    return frame, min(_LARGE, max(_SMALL, round(frame[2] - frame[0]))), 1.0


def _small(box: _Box) -> Cut:
    return box, _SMALL, _AROUND
