"""Single boxes of YOLO's label files changed."""

from collections.abc import Sequence

import numpy as np

from detcenter.data.dataset import Annotation
from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts import yolo
from detcenter.data.layouts.corrected.changes import Changed, Correction, positions, stays
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.reading import read_text
from detcenter.data.layouts.yolo_labels import Row, named_box, read_rows


def corrected(
    files: Files, images: Sequence[Changed], classes: list[str] | None
) -> dict[str, bytes]:
    """The files that change, by their names below the root.

    Args:
        classes: by their numbers, where the data set does not name them.

    Raises:
        NotThere: a box that is to be changed.
        DataError: the labels of two images are one file.
    """
    made = dict[str, bytes]()
    known = {part: yolo.names_of(files, part) for part in {image.part for image in images}}
    for image in images:
        names, keypoints = known[image.part]
        file = image.annotation["file"]
        name = file.relative_to(files.root).as_posix()
        if name in made:
            what = "it is the label file of several images; part their names first"
            raise DataError(Fault(file, what))
        rows, lines = (
            (read_rows(file, []), read_text(file).splitlines()) if file.is_file() else ([], [])
        )
        text = corrected_yolo(
            rows, lines, names or classes, keypoints, image.annotation, image.corrections
        )
        made[name] = text.encode()
    return made


def corrected_yolo(
    rows: Sequence[Row],
    lines: Sequence[str],
    names: list[str] | None,
    keypoints: bool,
    annotation: Annotation,
    corrections: Sequence[Correction],
) -> str:
    """The text of a label file with its boxes changed.

    A polygon that is moved becomes that of its box, and a new box one where others are polygons:
    readers take all lines of a file for the same. Key points stay as they are, and are not seen
    (0 0 0) of a new box.

    Args:
        rows: its boxes, with the numbers of their ``lines`` from 1.
        names: of the classes by their numbers; None: their names are the numbers.
        keypoints: whether lines hold key points.
    """
    width, height = annotation["width"], annotation["height"]
    said = [named_box(row, names, keypoints) for row in rows]
    scale = np.array([width, height] * 2, np.float64)
    boxes = np.array([box for _, box in said], np.float64).reshape(-1, 4) * scale
    found = positions(annotation, boxes, [name for name, _ in said], corrections)
    text: list[str | None] = [*lines]
    for at, change in zip(found, corrections, strict=True):
        if change.new_box is None or change.new_label is None:
            assert at is not None
            text[rows[at].number - 1] = None
            continue
        number = int(change.new_label) if names is None else names.index(change.new_label)
        corners = (np.asarray(change.new_box) / scale).tolist()
        old = None if at is None else rows[at]
        line = " ".join(f"{x:.9g}" for x in [number, *_as_others(corners, rows, old, keypoints)])
        if at is None:
            text.append(line)
        elif stays(change):
            _, rest = lines[rows[at].number - 1].split(None, 1)
            text[rows[at].number - 1] = f"{number} {rest}"
        else:
            text[rows[at].number - 1] = line
    return "".join(f"{line}\n" for line in text if line is not None)


def _as_others(
    corners: Sequence[float], rows: Sequence[Row], old: Row | None, keypoints: bool
) -> list[float]:
    """The numbers of a line after its class: a box's, or a polygon's where others are polygons."""
    x1, y1, x2, y2 = corners
    box = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    longest = max((len(row.numbers) for row in rows), default=4)
    if keypoints:
        return [*box, *(old.numbers[4:] if old else [0.0] * (longest - 4))]
    return [x1, y1, x2, y1, x2, y2, x1, y2] if longest > 5 else box
