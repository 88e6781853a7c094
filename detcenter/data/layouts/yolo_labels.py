"""The lines of YOLO's label files: a class, and a box, a polygon or key points."""

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from reprlib import repr as shortened
from typing import NamedTuple

import numpy as np

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.reading import below, head, read_text
from detcenter.data.layouts.shapes import around

_MOST_UNNAMED = 1000  # classes; a stray number must not make thousands of them
_ROUNDING = 0.01  # by which coordinates may leave 0 to 1
_FEW = 4  # lines, below which nothing is said about all of them: they may be so by chance
_KEY_POINTS = "key points, or a score and a track, need kpt_shape in data.yaml"


class Row(NamedTuple):
    """A line of a label file."""

    file: Path
    number: int  # of the line, from 1
    kind: float  # the number of the class
    numbers: list[float]

    def fault(self, what: object) -> Fault:
        return Fault(self.file, f"line {self.number}: {what}")


def label_file(files: Files, path: Path) -> Path:
    """That of an image; where there is none, where it would be."""
    candidates = label_names(path.relative_to(files.root).as_posix())
    found = (files.find(name) for name in candidates)
    return files.root / next((name for name in found if name is not None), candidates[0])


def label_names(image: str) -> list[str]:
    """The last folder `images` becomes `labels`; otherwise beside the image."""
    stem = posixpath.splitext(image)[0]
    return [*dict.fromkeys([f"{_instead(stem, 'images', 'labels')}.txt", f"{stem}.txt"])]


def lost_images(files: Files, places: list[str], texts: dict[Path, Path]) -> list[Fault]:
    """The label files with boxes that belong to a part's folders, but to no image in them.

    Args:
        places: the folders; with a list among them, which need not name all, nothing is lost.
        texts: the label file of every image.
    """
    images = [path.relative_to(files.root).as_posix() for path in texts]
    known = {name.lower() for image in images for name in label_names(image)}
    folders = places if all(below(files, place) for place in places) else []
    in_use = {file.parent for file in texts.values() if file.is_file()} if folders else set()
    lost = []
    for name in files.ending(".txt") if folders else []:
        stem = posixpath.splitext(name)[0]
        image = _instead(stem, "labels", "images")
        meant = image != stem and any(image.lower().startswith(f"{f}/".lower()) for f in folders)
        file = files.root / name
        if name.lower() not in known and (meant or file.parent in in_use) and begins_with_box(file):
            what = f"image file not found: no {image!r} with an ending such as .jpg"
            lost.append(Fault(file, what))
    return lost


def _instead(stem: str, folder: str, other: str) -> str:
    """With the last folder of one name called otherwise."""
    return re.sub(rf"^(.*/|){folder}/", rf"\1{other}/", stem, flags=re.DOTALL | re.IGNORECASE)


def begins_with_box(file: Path) -> bool:
    """Whether the first line of a text file is like one of a label file."""
    text = head(file).decode(errors="replace")
    first = text.splitlines()[0] if text.strip() else ""
    return re.match(r"\s*[0-9]+(\s+[0-9.eE+-]+){4,}\s*$", first) is not None


def read_rows(file: Path, faults: list[Fault]) -> list[Row]:
    """The lines of a label file; those that are not numbers go to `faults`."""
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if line.strip():
            try:
                kind, *numbers = map(float, line.split())
            except ValueError:
                what = f"{shortened(line)} is not a class and numbers"
                faults.append(Fault(file, f"line {number}: {what}"))
            else:
                rows.append(Row(file, number, kind, numbers))
    return rows


def check_meaning(rows: Sequence[Row], keypoints: bool, source: Path, faults: list[Fault]) -> None:
    """What all lines of a part say when their numbers mean something else.

    Raises:
        DataError: boxes are two corners.
    """
    if _are_corners(rows):
        what = "boxes look like two corners, x1 y1 x2 y2; YOLO's are a center, width and height"
        raise DataError(Fault(source, what))
    counts = {len(row.numbers) for row in rows}
    if not keypoints and len(rows) >= _FEW and len(counts) == 1 and _are_key_points(rows):
        what = f"every line has a box and {min(counts) - 4} more numbers, read as a polygon"
        faults.append(Fault(source, f"{what}; {_KEY_POINTS}"))


def _are_corners(rows: Sequence[Row]) -> bool:
    """Whether as corners nearly all boxes are in order, and as centers and sizes more than a
    quarter reach out of their image."""
    boxes = np.array([row.numbers[:4] for row in rows if len(row.numbers) in (4, 5)])
    if len(boxes) < _FEW:
        return False
    ordered = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & _within(boxes)
    return bool(ordered.mean() >= 0.99 and (~_within(_corners(boxes))).mean() > 0.25)


def _are_key_points(rows: Sequence[Row]) -> bool:
    """Whether lines of equally many numbers begin with a box, and what follows is within it.

    Four points each are turned boxes. Polygons of another number have it seldom all in common,
    and then their first two points are no box inside the image on every line.
    """
    values = np.array([row.numbers for row in rows])
    more = values.shape[1] - 4
    if more < 2 or more == 4 or more % 2:
        return False
    boxes = _corners(values[:, :4])
    if not ((values[:, 2:4] > 0).all() and _within(boxes).all()):
        return False
    return more == 2 or any(
        _mostly_inside(values[:, 4:].reshape(len(values), -1, size), boxes)
        for size in (2, 3)
        if more % size == 0
    )


def _mostly_inside(points: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether 9 of 10 points (N, K, 2 or 3), but for those at 0, are in their boxes (N, 4)."""
    seen = np.asarray((points[..., :2] != 0).any(axis=-1))
    inside = np.asarray((points[..., :2] >= boxes[:, None, :2] - _ROUNDING).all(axis=-1))
    inside &= (points[..., :2] <= boxes[:, None, 2:] + _ROUNDING).all(axis=-1)
    return bool(seen.any() and inside[seen].mean() >= 0.9)


def _within(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(((boxes >= -_ROUNDING) & (boxes <= 1 + _ROUNDING)).all(axis=1))


def _corners(boxes: np.ndarray) -> np.ndarray:
    half = boxes[:, 2:] / 2
    with np.errstate(all="ignore"):  # of numbers that are refused later
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def named_box(row: Row, names: list[str] | None, keypoints: bool) -> tuple[str, list[float]]:
    """The class and the box, xyxy in parts of the image; it may reach out of it.

    Raises:
        ValueError: what is wrong.
    """
    numbers = row.numbers
    if keypoints or len(numbers) == 5:  # the fifth is a score, or the number of a track
        numbers = numbers[:4]
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        needed = "neither a box (x, y, width, height) nor the corners of a polygon"
        raise ValueError(f"{len(numbers)} numbers, {needed}; {_KEY_POINTS}")
    for place, number in enumerate(numbers):
        if not -_ROUNDING <= number <= 1 + _ROUNDING:
            pixels = "YOLO's numbers are parts of the image's width and height, not pixels"
            what = _KEY_POINTS if place > 3 else pixels
            raise ValueError(f"{number:g} is not between 0 and 1; {what}")
    name = _name(row.kind, names)
    if len(numbers) > 4:
        return name, around([numbers[k : k + 2] for k in range(0, len(numbers), 2)])
    x, y, width, height = numbers
    return name, [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _name(index: float, names: list[str] | None) -> str:
    if not index.is_integer() or index < 0:
        raise ValueError(f"class {index:g} is not a number from 0 on")
    if names is None and index >= _MOST_UNNAMED:
        raise ValueError(f"class {index:g}, and no file names the classes")
    if names is not None and index >= len(names):
        raise ValueError(f"class {index:g}, but only classes 0 to {len(names) - 1} have a name")
    return str(int(index)) if names is None else names[int(index)]
