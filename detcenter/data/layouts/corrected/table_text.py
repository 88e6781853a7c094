"""The text of a table, in which single cells change and all others stay as they are written."""

import io
import math
import re
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from detcenter.data.layouts.reading import read_text
from detcenter.data.layouts.table_columns import (
    Columns,
    cells_in,
    delimiter_of,
    synonyms,
)
from detcenter.data.layouts.table_rows import number_in


class TableText(NamedTuple):
    """A table as it is written."""

    start: bytes  # a byte order mark, or nothing
    rows: dict[int, str]  # with their ends, by the number of their last line, from 1
    columns: Columns
    delimiter: str
    end: str  # of a row
    called: dict[int, dict[str, str]]  # what other columns call the classes
    whole: bool  # all corners are whole pixels
    fraction: str  # as it is written of whole ones: nothing, ".0" or ",0"
    point: str  # "." or ","


def text_of(file: Path, columns: Columns) -> TableText:
    """The table in a file that its reader could read."""
    content = file.read_bytes()
    start = BOM_UTF8 if content.startswith(BOM_UTF8) else b""
    lines = [*io.StringIO(content.removeprefix(start).decode(), newline="")]
    text, rows, begin = read_text(file), dict[int, str](), 0
    for end, _ in cells_in(text):
        rows[end] = "".join(lines[begin:end])
        begin = end
    numbers = _corners(columns, text)
    whole = bool(numbers) and not columns.relative and all(v.is_integer() for v in numbers.values())
    point = "," if any("," in cell for cell in numbers) else "."
    fraction = f"{point}0" if any(point in cell for cell in numbers) else ""
    end_of_row = _end_of(lines[0]) or "\n"
    called = synonyms(columns, text)
    sign = delimiter_of(text)
    return TableText(start, rows, columns, sign, end_of_row, called, whole, fraction, point)


def _corners(columns: Columns, text: str) -> dict[str, float]:
    """The corners of all boxes, as they are written and in numbers."""
    found = dict[str, float]()
    for _, row in cells_in(text):
        for cell in [row[c].strip() for c in columns.corners if c < len(row)]:
            with suppress(ValueError):  # of a header, or at fault
                number = number_in(cell, columns.decimal_comma)
                found |= {cell: number} if math.isfinite(number) else {}
    return found


def content_of(text: TableText) -> bytes:
    return text.start + "".join(text.rows.values()).encode()


def is_parted_as_before(text: TableText) -> bool:
    """Whether the first line, a row where there is no header, tells readers the same delimiter."""
    first = io.StringIO("".join(text.rows.values()), newline=None).readline()
    return delimiter_of(first) == text.delimiter


def corners_as(text: TableText, box: Sequence[float], size: tuple[int, int]) -> list[str]:
    """The corners of a box, xyxy in pixels, as the table has others: whole if all of them are.

    Args:
        size: (width, height) of the image, pixels.
    """
    x1, y1, x2, y2 = map(float, box)
    width, height = size
    if text.whole:  # with an area inside the image
        a, b = min(round(x1), width - 1), min(round(y1), height - 1)
        corners = [a, b, max(round(x2), a + 1), max(round(y2), b + 1)]
        return [f"{corner}{text.fraction}" for corner in corners]
    if text.columns.relative:
        numbers = [f"{v:.9f}" for v in (x1 / width, y1 / height, x2 / width, y2 / height)]
    else:
        numbers = [f"{v:.6f}" for v in (x1, y1, x2, y2)]
    return [number.rstrip("0").rstrip(".").replace(".", text.point) for number in numbers]


def replaced(text: TableText, row: str, cells: Mapping[int, str]) -> str:
    """The text of a row with other cells, by their columns."""
    body = row.rstrip("\r\n")
    written = cells_as_written(body, text.delimiter)
    for column, cell in cells.items():
        if column < len(written):
            written[column] = _written_as(written[column], cell, text.delimiter)
    return text.delimiter.join(written) + _end_of(row)


def alone(text: TableText, row: str) -> str:
    """The text of a row that names the image of another, its size and its part alone."""
    columns = text.columns
    kept = (columns.image, columns.width, columns.height, columns.split)
    count = len(cells_as_written(row.rstrip("\r\n"), text.delimiter))
    return replaced(text, row, {column: "" for column in range(count) if column not in kept})


def with_end(text: TableText, row: str) -> str:
    """The text of a row, the file's last one too, so that another can follow."""
    return row if _end_of(row) else row + text.end


def _end_of(row: str) -> str:
    return row[len(row.rstrip("\r\n")) :]


def cells_as_written(row: str, delimiter: str) -> list[str]:
    """The cells of a row with their quotes, as Python's csv parts them.

    A quote at the start of a cell opens one that ends at the next single quote; two are a sign in
    it. What follows up to the delimiter belongs to the cell. Other quotes are signs.
    """
    sign = re.escape(delimiter)
    cell = re.compile(rf'(?:"(?:[^"]|"")*(?:"|\Z))?[^{sign}]*')
    found, place = list[str](), 0
    while True:
        match = cell.match(row, place)
        assert match is not None  # also of nothing
        found.append(match[0])
        place = match.end() + len(delimiter)
        if place > len(row):
            return found


def _written_as(old: str, new: str, delimiter: str) -> str:
    """In quotes, or between blanks, as the old cell is; in quotes where it has to be."""
    if old.startswith('"') or any(sign in new for sign in (delimiter, '"', "\n", "\r")):
        return '"' + new.replace('"', '""') + '"'
    return old.replace(old.strip(), new, 1) if new and old.strip() else new
