"""Data sets in LabelMe's layout: a JSON file beside every image."""

import math
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled, NamedBoxes, apart, labelled
from detcenter.data.layouts.parts import folders_of_parts, role_in
from detcenter.data.layouts.reading import (
    below,
    few,
    folders_near,
    holds,
    is_number,
    read_json,
    report_left_out,
    size_of,
)
from detcenter.data.layouts.shapes import around

_LEAST_POINTS = {
    "rectangle": 2,
    "circle": 2,
    "mask": 2,
    "polygon": 3,
    "oriented_rectangle": 3,
    "rotation": 3,
}


def find_parts(files: Files) -> list[str]:
    """The folders named after parts that hold LabelMe's files, in folders of their own or not;
    without such names the only folder with files, or "." for those of several."""
    words = b'"shapes"', b'"imagePath"'
    names = few(files.ending(".json"), each=5, most=2000)  # a folder for every camera and day
    found = [name for name in names if holds(files.root / name, *words)]
    folders = {posixpath.dirname(name) or "." for name in found}
    named = any(map(role_in, folders))
    return folders_of_parts(found) if named or len(folders) > 1 else [*folders]


def read(files: Files, part: str, classes: list[str] | None, faults: list[Fault]) -> Labelled:
    """The images of a folder that have a file, with the boxes around their shapes.

    Points and lines are left out and counted, as are JSON files that are not LabelMe's.

    Args:
        part: the name of the folder; those in it are read too.
        classes: in the order of their labels; None takes those that occur, sorted.

    Raises:
        DataError: no such folder, or none of its files is LabelMe's.
    """
    folder = posixpath.normpath(part.replace("\\", "/"))
    names = [name for name in below(files, folder) if name.lower().endswith(".json")]
    left_out: Counter[str] = Counter()
    images: list[NamedBoxes | None] = []
    for name in names:
        try:
            images.append(_image(files, name, left_out, faults))
        except DataError as error:
            faults += error.args
            images.append(None)
    if left_out["other JSON files"] == len(names):
        raise DataError(Fault(files.root / part, "no folder with JSON files of LabelMe"))
    report_left_out(left_out, files.root / part, "left out, for they are no boxes")
    paths = apart(names, [image and image.path for image in images], files.root / part, faults)
    kept = [image for image, path in zip(images, paths, strict=True) if image and path]
    return labelled(kept, classes, faults)


def _image(
    files: Files, name: str, left_out: Counter[str], faults: list[Fault]
) -> NamedBoxes | None:
    file = files.root / name
    content = read_json(file)
    if not isinstance(content, dict) or not {"shapes", "imagePath"} & content.keys():
        left_out["other JSON files"] += 1
        return None
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise DataError(Fault(file, f"'shapes' is not a list but {shortened(shapes)}"))
    path = _image_path(files, name, content)
    boxes, names = [], []
    for _, label, box in boxes_in(shapes, file, left_out, faults):
        names.append(label)
        boxes.append(box)
    width, height = size_of(content.get("imageWidth")), size_of(content.get("imageHeight"))
    return NamedBoxes(path, file, width, height, boxes, names)


def boxes_in(
    shapes: Sequence[Any], file: Path, left_out: Counter[str], faults: list[Fault]
) -> Iterator[tuple[dict[str, Any], str, list[float]]]:
    """The entries of "shapes" that are boxes, their classes, and xyxy in pixels."""
    for shape in shapes:
        try:
            box = _box(shape, left_out)
            if box is not None:
                yield shape, _label(shape), box
        except ValueError as error:
            faults.append(Fault(file, str(error)))


def _image_path(files: Files, name: str, content: dict[str, Any]) -> Path:
    """The image beside the file that is called as it, else the one that it names, which is often
    that of another machine, else one of its name in a folder near."""
    file, stem = files.root / name, posixpath.splitext(name)[0]
    folders = folders_near(files, name)
    beside = files.image_of(stem)
    if beside is not None:
        return files.root / beside
    named = content.get("imagePath")
    try:
        return files.image(named if isinstance(named, str) else "", folders, file)
    except DataError:
        stems = [posixpath.join(folder, posixpath.basename(stem)) for folder in folders]
        found = next((image for image in map(files.image_of, stems) if image is not None), None)
        if found is not None:
            return files.root / found
        if content.get("imageData"):
            what = "its image is in here, but no file; write it out, as labelme_export_json does"
            raise DataError(Fault(file, what)) from None
        raise


def _box(shape: Any, left_out: Counter[str]) -> list[float] | None:
    """xyxy in pixels; None for a shape that is no box.

    Raises:
        ValueError: what is wrong with it.
    """
    if not isinstance(shape, dict):
        raise ValueError(f"an entry of 'shapes' is not an object but {shortened(shape)}")
    kind = shape.get("shape_type") or "polygon"  # old files have polygons alone
    if not isinstance(kind, str) or kind not in _LEAST_POINTS:
        left_out[shortened(kind).strip("'")] += 1
        return None
    points = shape.get("points")
    least = _LEAST_POINTS[kind]
    if not isinstance(points, list) or len(points) < least or not all(map(_is_point, points)):
        raise ValueError(f"a {kind} has points {shortened(points)}, not {least} or more x and y")
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points[:2]
        radius = math.hypot(edge_x - x, edge_y - y)
        return [x - radius, y - radius, x + radius, y + radius]
    return around(points)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _label(shape: dict[str, Any]) -> str:
    label = shape.get("label")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"a shape has the label {shortened(label)}, not the name of a class")
    return label.strip()
