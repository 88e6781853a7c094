"""Data sets in a table, a CSV file with a row for every box."""

import csv
import posixpath
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import image_size
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled, NamedBoxes, image_paths, labelled
from detcenter.data.layouts.parts import role_of
from detcenter.data.layouts.reading import (
    few,
    folders_near,
    head,
    part_file,
    read_text,
)
from detcenter.data.layouts.table_columns import (
    Columns,
    cells_in,
    columns_in,
)
from detcenter.data.layouts.table_rows import Rows, check_pixels, read_rows
from detcenter.errors import nearest


def find_parts(files: Files) -> list[str]:
    """Names of the tables that can be read here; if a column says which rows are to train on and
    which not, one for each of its words, with "/" and the word behind."""
    found = []
    for name in few(files.ending(".csv", ".tsv")):
        columns = _begins_as_table(files, name)
        if columns is not None:
            words = [] if columns.split is None else _words(files.root / name, columns.split)
            found += [f"{name}/{word}" for word in words] if len(words) > 1 else [name]
    return found


def read(files: Files, part: str, classes: list[str] | None, faults: list[Fault]) -> Labelled:
    """The images of a table, or of those rows that one word marks, with corners in pixels from 0 as
    they stand.

    Corners of Open Images' tables are parts of the image. A row without corners says that an image
    has no boxes; images that no row names are none of the part.

    Args:
        part: the name of the table, or that, "/" and the word.
        classes: in the order of their labels; None takes those that occur in the table, sorted.

    Raises:
        DataError: no such table, or not one of boxes in pixels; no row has the word.
    """
    table = read_table(files, part, faults)
    images = []
    for path, rows in table.rows.items():
        try:
            images.append(boxes_in(table, path, rows))
        except DataError as error:
            faults += error.args
    return labelled(images, table.classes if classes is None else classes, faults)


def _table_and_word(files: Files, part: str) -> tuple[str, str | None]:
    found = re.match(r"(.*?\.[ct]sv)/(.+)", part, re.IGNORECASE)
    return (part, None) if found is None or files.find(part) is not None else (found[1], found[2])


def _begins_as_table(files: Files, name: str) -> Columns | None:
    text = head(files.root / name, 1 << 16).decode("utf-8-sig", errors="replace")
    try:
        _, first = next(cells_in(text))
    except (csv.Error, StopIteration):
        return None
    return columns_in(first)


def _words(file: Path, split: int) -> list[str]:
    """Those in a column that name a part, as they are first written."""
    try:
        rows = (row for _, row in islice(cells_in(read_text(file)), 1, None) if len(row) > split)
        words = {row[split].strip().casefold(): row[split].strip() for row in rows}
    except (csv.Error, DataError):
        return []
    return [word for word in words.values() if role_of(word) is not None]


class Table(NamedTuple):
    """What a table says of the images of a part that are here."""

    file: Path
    columns: Columns
    classes: list[str] | None  # of all parts of one table; None: those of the images
    rows: dict[Path, Rows]


def read_table(files: Files, part: str, faults: list[Fault]) -> Table:
    """The rows of the images that `read` gives."""
    table, word = _table_and_word(files, part)
    file = part_file(files, table)
    by_word, columns = read_rows(file, word, faults)
    every = [rows for of_word in by_word.values() for rows in of_word.values()]
    check_pixels(every, columns, file)
    rows = by_word.get((word or "").casefold(), {})
    if word is not None and not rows:
        known = [mark for mark in by_word if mark]
        why = nearest(word, known) if known else "it has no column split, set, subset or usage"
        raise DataError(Fault(file, f"no row is of {word!r}; {why}"))
    paths = image_paths([*rows], _finder(files, file), file, faults)
    here = {path: rows[name] for path, name in zip(paths, rows, strict=True) if path is not None}
    if word is None:
        return Table(file, columns, None, here)
    classes = sorted({name for rows in every for name in rows.names})
    return Table(file, columns, classes, here)


def _finder(files: Files, file: Path) -> Callable[[str], Path]:
    """What finds an image by the name in a table, which may lack the ending."""
    folders = folders_near(files, file.relative_to(files.root).as_posix())
    by_stem: dict[str, list[str]] = {}
    for image in files.images():
        by_stem.setdefault(posixpath.splitext(posixpath.basename(image))[0], []).append(image)

    def find(name: str) -> Path:
        try:
            return files.image(name, folders, file)
        except DataError:
            nearest = [files.image_of(posixpath.join(folder, name)) for folder in folders]
            found = [image for image in nearest if image is not None] or by_stem.get(name, [])
            if not found:
                raise
            if len(found) > 1 and found == by_stem.get(name):
                what = f"the image {name!r} may be {found[0]!r} or {found[1]!r}"
                raise DataError(Fault(file, what)) from None
            return files.root / found[0]

    return find


def boxes_in(table: Table, path: Path, rows: Rows) -> NamedBoxes:
    """The boxes of an image, in the order of their rows.

    Raises:
        DataError: the image cannot be read, which they are parts of.
    """
    width, height, boxes = rows.width, rows.height, rows.boxes
    if table.columns.relative:
        width, height = image_size(path)
        boxes = [[x1 * width, y1 * height, x2 * width, y2 * height] for x1, y1, x2, y2 in boxes]
    return NamedBoxes(path, table.file, width, height, boxes, rows.names, rows.iscrowd)
