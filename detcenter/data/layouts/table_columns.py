"""What the columns of a table are, and what its cells say."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from detcenter.data.images import is_image
from detcenter.data.layouts.reading import warn_once

# What headers call a column, in lower case and without signs.
_IMAGE = (
    "filename",
    "file",
    "image",
    "imagepath",
    "imageid",
    "imagename",
    "path",
    "filepath",
    "img",
)
_CLASS = ("class", "label", "labelname", "classname", "category", "name")
_CORNERS = (
    ("xmin", "x1", "left", "xtl", "bboxxmin"),
    ("ymin", "y1", "top", "ytl", "bboxymin"),
    ("xmax", "x2", "right", "xbr", "bboxxmax"),
    ("ymax", "y2", "bottom", "ybr", "bboxymax"),
)
_SPLIT = ("split", "set", "subset", "usage")
_OPEN_IMAGES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}
_MISSING = {"", "nan", "none", "null", "<na>"}  # in lower case, as pandas and others write it


class Columns(NamedTuple):
    """Which column of a table says what."""

    image: int
    label: int
    corners: tuple[int, ...]  # four
    width: int | None = None  # of the image
    height: int | None = None
    crowd: int | None = None
    split: int | None = None  # whether a row is to train on
    labels: tuple[tuple[str, int], ...] = ()  # all that may be `label`, with their names
    relative: bool = False  # corners are parts of the image's sides
    header: bool = True
    decimal_comma: bool = False


def cells_in(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, each with the number of its last line.

    Raises:
        csv.Error: when a row is no row.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text))
    for row in reader:
        yield reader.line_num, row


def delimiter_of(text: str) -> str:
    return max(",;\t", key=text.partition("\n")[0].count)


def columns_in(row: list[str]) -> Columns | None:
    """What the columns are by the first row, which is a header in most tables."""
    names = [re.sub(r"[^a-z0-9]", "", text.lower()) for text in row]
    image, *corners = (_first(names, known) for known in (_IMAGE, *_CORNERS))
    labels = tuple((row[names.index(n)].strip(), names.index(n)) for n in _CLASS if n in names)
    found = [column for column in corners if column is not None]
    if image is not None and labels and len(found) == 4:
        return Columns(
            image,
            labels[0][1],
            tuple(found),
            width=_first(names, ("width", "imagewidth")),
            height=_first(names, ("height", "imageheight")),
            crowd=_first(names, ("isgroupof", "iscrowd")),
            split=_first(names, _SPLIT),
            labels=labels,
            relative={*names} >= _OPEN_IMAGES,
        )
    if len(row) == 6 and is_image(row[0].strip()) and all(map(_is_number_or_missing, row[1:5])):
        return Columns(0, 5, (1, 2, 3, 4), header=False)
    return None


def _first(names: list[str], known: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def with_label(columns: Columns, text: str, file: Path) -> Columns:
    """With the column of the classes where several may be: one of text before one of numbers.

    A warning says which one was taken if another does not say the same in other words.
    """
    columns = columns._replace(decimal_comma=delimiter_of(text) == ";")
    if len(columns.labels) < 2:
        return columns
    values = _called(columns, text)
    texts = [k for k, column in enumerate(values) if not all(map(_is_number_or_missing, column))]
    taken = texts[0] if texts else 0
    for k, (name, _) in enumerate(columns.labels):
        if not all(map(is_missing, values[k])) and not _one_to_one(values[taken], values[k]):
            of = columns.labels[taken][0]
            warn_once(f"{file}: classes may be in the column {of!r} or {name!r}; {of!r} is taken")
    return columns._replace(label=columns.labels[taken][1])


def synonyms(columns: Columns, text: str) -> dict[int, dict[str, str]]:
    """What other columns call the classes, by column, where they say the same in other words."""
    others = [column for _, column in columns.labels]
    called = dict(zip(others, _called(columns, text), strict=True)) if others[1:] else {}
    taken = called.pop(columns.label, ())
    return {
        column: dict(zip(taken, names, strict=True))
        for column, names in called.items()
        if _one_to_one(taken, names)
    }


def _called(columns: Columns, text: str) -> list[tuple[str, ...]]:
    """In each column of classes how they are called, in an order that is the same in all."""
    cells = set()
    for _, row in cells_in(text):
        if len(row) > max(columns.corners) and not all(is_missing(row[c]) for c in columns.corners):
            cells.add(tuple(row[c].strip() if c < len(row) else "" for _, c in columns.labels))
    cells.discard(tuple(name for name, _ in columns.labels))  # the header
    return [*zip(*cells, strict=True)] or [()] * len(columns.labels)


def _one_to_one(first: Sequence[str], second: Sequence[str]) -> bool:
    pairs = len({*zip(first, second, strict=True)})
    return len({*first}) == pairs == len({*second})


def row_word(row: list[str], columns: Columns) -> str:
    """What a row is marked with, in lower case."""
    split = columns.split
    return row[split].strip().casefold() if split is not None and split < len(row) else ""


def is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def is_negative(label: str, corners: Sequence[str]) -> bool:
    """Whether a row names an image alone: it has no corners, or neither a class nor an area."""
    if is_missing(label):
        corners = [cell for cell in corners if not re.fullmatch(r"0+([.,]0*)?", cell)]
    return all(map(is_missing, corners))


def _is_number_or_missing(cell: str) -> bool:
    return is_missing(cell) or re.fullmatch(r"\s*-?[0-9]+([.,][0-9]*)?\s*", cell) is not None
