"""Single boxes of tables changed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts.corrected.changes import Changed, Correction, positions, stays
from detcenter.data.layouts.corrected.table_text import (
    TableText,
    alone,
    content_of,
    corners_as,
    is_parted_as_before,
    replaced,
    text_of,
    with_end,
)
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.table import Table, boxes_in, read_table
from detcenter.data.layouts.table_columns import is_missing
from detcenter.data.layouts.table_rows import Rows


def corrected(files: Files, images: Sequence[Changed]) -> dict[str, bytes]:
    """The files that change, by their names below the root. All other rows stay as they are.

    Raises:
        NotThere: a box that is to be changed.
        DataError: a class whose name would be read as none, or a first row that would be misread.
    """
    tables, texts = dict[str, Table](), dict[Path, TableText]()
    for image in images:
        if image.part not in tables:
            tables[image.part] = read_table(files, image.part, faults=[])
        table = tables[image.part]
        if table.file not in texts:
            texts[table.file] = text_of(table.file, table.columns)
        _correct(texts[table.file], table, image)
    for file, text in texts.items():
        if not is_parted_as_before(text):
            what = "its first row would be parted at another sign; put a header row before it"
            raise DataError(Fault(file, what))
    return {
        file.relative_to(files.root).as_posix(): content_of(text) for file, text in texts.items()
    }


def _correct(text: TableText, table: Table, image: Changed) -> None:
    path = image.annotation["path"]
    rows = table.rows[path]
    read = boxes_in(table, path, rows)
    boxes = np.array(read.boxes, np.float64).reshape(-1, 4)
    found = positions(image.annotation, boxes, read.names, image.corrections)
    size = image.annotation["width"], image.annotation["height"]
    gone, added = set[int](), list[dict[int, str]]()
    for at, change in zip(found, image.corrections, strict=True):
        line = None if at is None else rows.of_boxes[at]
        if change.new_box is None and line is not None:
            gone.add(line)
            continue
        cells = _cells(text, table.file, change, size)
        if line is None:
            added.append(cells)
        else:
            text.rows[line] = replaced(text, text.rows[line], cells)
    _remove_and_add(text, rows, gone, added)


def _remove_and_add(
    text: TableText, rows: Rows, gone: set[int], added: list[dict[int, str]]
) -> None:
    """Rows go and new ones follow the image's last one. While it has no boxes, one row names it."""
    left = [line for line in rows.of_boxes if line not in gone]
    empty = [*rows.without]
    if gone and not left and not empty:
        empty = [min(gone)]
        text.rows[empty[0]] = alone(text, text.rows[empty[0]])
    for line in gone.difference(empty):
        del text.rows[line]
    if added and empty and not left:
        text.rows[empty[0]] = replaced(text, text.rows[empty[0]], added.pop(0))
    last = max([*left, *empty], default=rows.first)
    row = text.rows[last]
    *before, final = [row, *(replaced(text, alone(text, row), cells) for cells in added)]
    text.rows[last] = "".join(with_end(text, line) for line in before) + final


def _cells(
    text: TableText, file: Path, change: Correction, size: tuple[int, int]
) -> dict[int, str]:
    """What changes in the row of a box, or is in a new one, by column."""
    assert change.new_box is not None and change.new_label is not None
    cells = dict[int, str]()
    if change.box is None or change.label != change.new_label:
        if is_missing(change.new_label):
            what = f"the class {change.new_label!r} cannot be written: it is read as none"
            raise DataError(Fault(file, what))
        cells[text.columns.label] = change.new_label
        cells |= {c: names.get(change.new_label, "") for c, names in text.called.items()}
    if not stays(change):
        corners = corners_as(text, change.new_box, size)
        cells |= dict(zip(text.columns.corners, corners, strict=True))
    return cells
