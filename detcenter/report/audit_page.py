"""The suspects of an audit as a page on which a person decides about one after another."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from detcenter.data import DataError
from detcenter.report.crops import crop, webp
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
    pictures = _pictures(entries, image, progress)
    for row, entry in zip(rows, entries, strict=True):
        row["frame"] = _frame(entry)
        row["picture"] = pictures.get((entry.path, _frame(entry), _LARGE))
        for name, others in (("of_label", entry.of_label), ("of_better", entry.of_better)):
            found = (pictures.get((path, box, _SMALL)) for path, box in others)
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


def _pictures(
    entries: Sequence[Entry],
    image: Callable[[Path], np.ndarray],
    progress: Callable[[list[Path]], Iterable[Path]],
) -> dict[tuple[Path, _Box, int], str]:
    """Data URIs by image, square and size; every image is read once."""
    wanted: dict[Path, dict[tuple[_Box, int], None]] = {}
    for entry in entries:
        wanted.setdefault(entry.path, {})[_frame(entry), _LARGE] = None
        for path, box in (*entry.of_label, *entry.of_better):
            wanted.setdefault(path, {})[box, _SMALL] = None
    found = {}
    for path in progress([*wanted]):
        try:
            picture = Image.fromarray(image(path))
        except DataError:  # a suspect without a picture can still be decided on
            continue
        for box, size in wanted[path]:
            side, around = (size, _AROUND) if size == _SMALL else (_side(box), 1.0)
            found[path, box, size] = webp(crop(picture, box, side, around))
    return found


def _side(frame: _Box) -> int:
    """Pixels of the picture of a frame; not more than the image has."""
    return min(_LARGE, max(_SMALL, round(frame[2] - frame[0])))
