"""What the rows of a table say, by image."""

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shortened

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts.parts import role_of
from detcenter.data.layouts.reading import read_text, report_left_out, size_of
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
    """What the rows of an image say; a row is told by the number of its last line, from 1."""

    first: int  # row that names the image
    width: int
    height: int
    boxes: list[list[float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    iscrowd: list[bool] = field(default_factory=list)
    of_boxes: list[int] = field(default_factory=list)  # the row of each
    without: list[int] = field(default_factory=list)  # rows that name the image alone


def read_rows(
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
                try:
                    _add(by_word.setdefault(mark, {}), row, line, columns)
                except ValueError as error:
                    faults += [Fault(file, f"line {line}: {error}")] if mine else []
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


def _add(rows: dict[str, Rows], row: list[str], line: int, columns: Columns) -> None:
    """Put a row to those of its image.

    Raises:
        ValueError: what is wrong with it.
    """
    cells = [cell.strip() for cell in row]

    def cell(column: int | None) -> str:
        return cells[column] if column is not None and column < len(cells) else ""

    name, needed = cell(columns.image), max(columns.image, columns.label, *columns.corners) + 1
    if is_missing(name):
        raise ValueError("no image is named")
    if len(cells) < needed:
        raise ValueError(f"{len(cells)} cells, not {needed}")
    size = size_of(cell(columns.width)), size_of(cell(columns.height))
    image = rows.setdefault(name, Rows(line, *size))
    corners, label = [cell(column) for column in columns.corners], cell(columns.label)
    if is_negative(label, corners):
        image.without.append(line)
        return
    box = [number_in(text, columns.decimal_comma) for text in corners]
    _check_box(box, label, columns)
    image.of_boxes.append(line)
    image.boxes.append(box)
    image.names.append(label)
    image.iscrowd.append(cell(columns.crowd).lower() in ("1", "true"))


def number_in(text: str, decimal_comma: bool) -> float:
    """The number in a cell, with a point, or a comma too.

    Raises:
        ValueError: there is none.
    """
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


def check_pixels(rows: list[Rows], columns: Columns, file: Path) -> None:
    numbers = [v for image in rows for box in image.boxes for v in box]
    if numbers and not columns.relative and all(0 <= v <= 1 for v in numbers):
        what = "all corners are between 0 and 1, parts of the image; a table must have pixels"
        raise DataError(Fault(file, what))
