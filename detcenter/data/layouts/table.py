"""Data sets in a table, a CSV file with a row for every box."""

import csv
import posixpath
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from reprlib import repr as shortened

from detcenter.data.errors import DataError, Fault, nearest
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
    report_left_out,
    size_of,
)
from detcenter.data.layouts.table_columns import (
    Columns,
    cells_in,
    columns_in,
    is_missing,
    is_negative,
    row_word,
    with_label,
)

_ROUNDING = 0.01


@dataclass
class Rows:
    """What the rows of an image say."""

    width: int
    height: int
    boxes: list[list[float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    iscrowd: list[bool] = field(default_factory=list)


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
    table, word = _table_and_word(files, part)
    file = part_file(files, table)
    by_word, columns = _read_rows(file, word, faults)
    _check_pixels(
        [rows for of_word in by_word.values() for rows in of_word.values()], columns, file
    )
    rows = by_word.get((word or "").casefold(), {})
    if word is not None and not rows:
        known = [mark for mark in by_word if mark]
        why = nearest(word, known) if known else "it has no column split, set, subset or usage"
        raise DataError(Fault(file, f"no row is of {word!r}; {why}"))
    find = _finder(files, file)
    images = []
    for path, name in zip(image_paths([*rows], find, file, faults), rows, strict=True):
        try:
            if path is not None:
                images.append(_image(path, file, rows[name], columns))
        except DataError as error:
            faults += error.args
    if classes is None and word is not None:  # parts of one table have the same
        every = (rows.names for of_word in by_word.values() for rows in of_word.values())
        classes = sorted({name for names in every for name in names})
    return labelled(images, classes, faults)


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


def _read_rows(
    file: Path, word: str | None, faults: list[Fault]
) -> tuple[dict[str, dict[str, Rows]], Columns]:
    """By the word that they are marked with, "" if they are not to be parted, and the image's name.

    What is wrong with rows of other words than `word` is not told.
    """
    text = read_text(file)
    rows, line = cells_in(text), 0
    by_word: dict[str, dict[str, Rows]] = {}
    left_out = Counter[str]()
    try:
        line, first = next(rows, (0, None))
        columns = _columns_or_raise(first, file)
        columns = with_label(columns, text, file)
        for line, row in rows if columns.header else cells_in(text):
            mark = "" if word is None else row_word(row, columns)
            if any(cell.strip() for cell in row):
                mine = mark == (word or "").casefold()
                if word is not None and role_of(mark) is None:
                    left_out[repr(mark)] += 1
                where = Fault(file, f"line {line}")
                told = faults if mine else []
                _add(by_word.setdefault(mark, {}), row, columns, where, told)
    except csv.Error as error:
        raise DataError(Fault(file, f"line {line + 1}: no table ({error})")) from None
    report_left_out(left_out, file, "rows of no part, left out")
    return by_word, columns


def _columns_or_raise(row: list[str] | None, file: Path) -> Columns:
    if row is None:
        raise DataError(Fault(file, "empty, not a table of boxes"))
    columns = columns_in(row)
    if columns is None:
        what = f"the columns {shortened(row)} are not an image, a class, xmin, ymin, xmax and ymax"
        raise DataError(Fault(file, what))
    return columns


def _add(
    rows: dict[str, Rows], row: list[str], columns: Columns, line: Fault, faults: list[Fault]
) -> None:
    """Put a row to those of its image, or what is wrong with it to `faults`."""
    cells = [cell.strip() for cell in row]

    def cell(column: int | None) -> str:
        return cells[column] if column is not None and column < len(cells) else ""

    name, needed = cell(columns.image), max(columns.image, columns.label, *columns.corners) + 1
    if is_missing(name) or len(cells) < needed:
        what = "no image is named" if is_missing(name) else f"{len(cells)} cells, not {needed}"
        faults.append(line._replace(what=f"{line.what}: {what}"))
        return
    image = rows.setdefault(name, Rows(size_of(cell(columns.width)), size_of(cell(columns.height))))
    corners, label = [cell(column) for column in columns.corners], cell(columns.label)
    if is_negative(label, corners):
        return
    try:
        box = [_number(text, columns.decimal_comma) for text in corners]
        _check_box(box, label, columns)
    except ValueError as error:
        faults.append(line._replace(what=f"{line.what}: {error}"))
        return
    image.boxes.append(box)
    image.names.append(label)
    image.iscrowd.append(cell(columns.crowd).lower() in ("1", "true"))


def _number(text: str, decimal_comma: bool) -> float:
    try:
        return float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        raise ValueError(f"{shortened(text)} is not a number") from None


def _check_box(box: list[float], label: str, columns: Columns) -> None:
    if is_missing(label):
        raise ValueError("a box without class")
    if columns.relative and not all(-_ROUNDING <= v <= 1 + _ROUNDING for v in box):
        what = "in Open Images' tables corners are parts of the image, not pixels"
        corners = ", ".join(f"{v:g}" for v in box)
        raise ValueError(f"'{corners}' is not between 0 and 1; {what}")


def _check_pixels(rows: list[Rows], columns: Columns, file: Path) -> None:
    numbers = [v for image in rows for box in image.boxes for v in box]
    if numbers and not columns.relative and all(0 <= v <= 1 for v in numbers):
        what = "all corners are between 0 and 1, parts of the image; a table must have pixels"
        raise DataError(Fault(file, what))


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


def _image(path: Path, file: Path, rows: Rows, columns: Columns) -> NamedBoxes:
    width, height, boxes = rows.width, rows.height, rows.boxes
    if columns.relative:
        width, height = image_size(path)
        boxes = [[x1 * width, y1 * height, x2 * width, y2 * height] for x1, y1, x2, y2 in boxes]
    return NamedBoxes(path, file, width, height, boxes, rows.names, rows.iscrowd)
