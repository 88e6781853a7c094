"""Data sets in a table, a CSV file with a row for every box."""

import csv
import io
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shortened
from typing import NamedTuple

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import ENDINGS, image_size
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled, NamedBoxes, image_paths, labelled
from detcenter.data.layouts.reading import few, folders_near, head, part_file, read_text, size_of

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
_OPEN_IMAGES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}
_ROUNDING = 0.01


class Columns(NamedTuple):
    """Which column of a table says what."""

    image: int
    label: int
    corners: tuple[int, ...]  # four
    width: int | None = None  # of the image
    height: int | None = None
    crowd: int | None = None
    relative: bool = False  # corners are parts of the image's sides
    header: bool = True


@dataclass
class Rows:
    """What the rows of an image say."""

    width: int
    height: int
    boxes: list[list[float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    iscrowd: list[bool] = field(default_factory=list)


def find_parts(files: Files) -> list[str]:
    """Names of the tables that can be read here."""
    return [name for name in few(files.ending(".csv", ".tsv")) if _begins_as_table(files, name)]


def read(files: Files, part: str, classes: list[str] | None, faults: list[Fault]) -> Labelled:
    """The images of a table, with corners in pixels from 0 as they stand.

    Corners of Open Images' tables are parts of the image. A row whose corners are empty says that
    an image has no boxes; images that no row names are none of the part.

    Args:
        part: the name of the table.
        classes: in the order of their labels; None takes those that occur, sorted.

    Raises:
        DataError: no such table, or not one of boxes in pixels.
    """
    file = part_file(files, part)
    rows, columns = _read_rows(file, faults)
    _check_pixels(rows, columns, file)
    names = [*rows]
    find = _finder(files, file)
    images = []
    for path, name in zip(image_paths(names, find, file, faults), names, strict=True):
        try:
            if path is not None:
                images.append(_image(path, file, rows[name], columns))
        except DataError as error:
            faults += error.args
    return labelled(images, classes, faults)


def _begins_as_table(files: Files, name: str) -> bool:
    lines = head(files.root / name, 1 << 16).decode("utf-8-sig", errors="replace").splitlines()
    try:
        first = next(csv.reader(lines[:1], delimiter=_delimiter(lines[0]))) if lines else []
    except (csv.Error, StopIteration):
        return False
    return _columns(first) is not None


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _columns(row: list[str]) -> Columns | None:
    """What the columns are by the first row, which is a header in most tables."""
    names = [re.sub(r"[^a-z0-9]", "", text.lower()) for text in row]
    image, label, *corners = (_first(names, known) for known in (_IMAGE, _CLASS, *_CORNERS))
    found = [column for column in corners if column is not None]
    if image is not None and label is not None and len(found) == 4:
        sizes = _first(names, ("width", "imagewidth")), _first(names, ("height", "imageheight"))
        crowd = _first(names, ("isgroupof", "iscrowd"))
        return Columns(image, label, tuple(found), *sizes, crowd, {*names} >= _OPEN_IMAGES)
    ending = posixpath.splitext(row[0].strip())[1].lower() if row else ""
    if len(row) == 6 and ending in ENDINGS and all(map(_is_number_or_empty, row[1:5])):
        return Columns(0, 5, (1, 2, 3, 4), header=False)
    return None


def _first(names: list[str], known: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _is_number_or_empty(text: str) -> bool:
    return re.fullmatch(r"\s*(-?[0-9]+([.,][0-9]*)?)?\s*", text) is not None


def _read_rows(file: Path, faults: list[Fault]) -> tuple[dict[str, Rows], Columns]:
    """By the image's name."""
    text = read_text(file)
    delimiter = _delimiter(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns: Columns | None = None
    rows: dict[str, Rows] = {}
    try:
        for row in reader:
            if columns is None:
                columns = _columns_or_raise(row, file)
                if columns.header:
                    continue
            if any(cell.strip() for cell in row):
                _add(rows, row, columns, delimiter, Fault(file, f"line {reader.line_num}"), faults)
    except csv.Error as error:
        raise DataError(Fault(file, f"line {reader.line_num}: no table ({error})")) from None
    if columns is None:
        raise DataError(Fault(file, "empty, not a table of boxes"))
    return rows, columns


def _columns_or_raise(row: list[str], file: Path) -> Columns:
    columns = _columns(row)
    if columns is None:
        what = f"the columns {shortened(row)} are not an image, a class, xmin, ymin, xmax and ymax"
        raise DataError(Fault(file, what))
    return columns


def _add(
    rows: dict[str, Rows],
    row: list[str],
    columns: Columns,
    delimiter: str,
    line: Fault,
    faults: list[Fault],
) -> None:
    """Put a row to those of its image, or what is wrong with it to `faults`."""
    cells = [cell.strip() for cell in row]

    def cell(column: int | None) -> str:
        return cells[column] if column is not None and column < len(cells) else ""

    name, needed = cell(columns.image), max(columns.image, columns.label, *columns.corners) + 1
    if not name or len(cells) < needed:
        what = f"{len(cells)} cells, not {needed}" if name else "no image is named"
        faults.append(line._replace(what=f"{line.what}: {what}"))
        return
    image = rows.setdefault(name, Rows(size_of(cell(columns.width)), size_of(cell(columns.height))))
    corners = [cell(column) for column in columns.corners]
    if not any(corners):
        return
    try:
        box = [_number(text, delimiter) for text in corners]
        _check_box(box, cell(columns.label), columns)
    except ValueError as error:
        faults.append(line._replace(what=f"{line.what}: {error}"))
        return
    image.boxes.append(box)
    image.names.append(cell(columns.label))
    image.iscrowd.append(cell(columns.crowd).lower() in ("1", "true"))


def _number(text: str, delimiter: str) -> float:
    try:
        # Where semicolons separate, a comma may be that of a fraction.
        return float(text.replace(",", ".") if delimiter == ";" else text)
    except ValueError:
        raise ValueError(f"{shortened(text)} is not a number") from None


def _check_box(box: list[float], label: str, columns: Columns) -> None:
    if not label:
        raise ValueError("a box without class")
    if columns.relative and not all(-_ROUNDING <= v <= 1 + _ROUNDING for v in box):
        what = "in Open Images' tables corners are parts of the image, not pixels"
        raise ValueError(f"{shortened(box)} is not between 0 and 1; {what}")


def _check_pixels(rows: dict[str, Rows], columns: Columns, file: Path) -> None:
    numbers = [v for image in rows.values() for box in image.boxes for v in box]
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
                what = f"the image {name!r} may be {found[0]} or {found[1]}"
                raise DataError(Fault(file, what)) from None
            return files.root / found[0]

    return find


def _image(path: Path, file: Path, rows: Rows, columns: Columns) -> NamedBoxes:
    width, height, boxes = rows.width, rows.height, rows.boxes
    if columns.relative:
        width, height = image_size(path)
        boxes = [[x1 * width, y1 * height, x2 * width, y2 * height] for x1, y1, x2, y2 in boxes]
    return NamedBoxes(path, file, width, height, boxes, rows.names, rows.iscrowd)
