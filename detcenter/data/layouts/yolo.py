"""Data sets in YOLO's layout: a label file of text beside, or in a folder beside, every image."""

import posixpath
from collections import Counter
from itertools import islice
from pathlib import Path

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import image_size, is_image
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled, NamedBoxes, labelled
from detcenter.data.layouts.parts import folders_of_parts
from detcenter.data.layouts.reading import below, few, report_left_out
from detcenter.data.layouts.yolo_images import (
    Part,
    declarations_of,
    images_of,
    is_above,
    is_here,
    lists_images,
    part_of,
)
from detcenter.data.layouts.yolo_labels import (
    Row,
    begins_with_box,
    check_meaning,
    label_file,
    lost_images,
    named_box,
    read_rows,
)
from detcenter.data.layouts.yolo_names import class_list, warn_of_count


def find_parts(files: Files) -> list[str]:
    """Names of the parts that can be read here: keys of data.yaml, else lists and folders."""
    declarations = [found for found in declarations_of(files, []) if found.parts]
    if declarations and is_here(files, declarations[0]):
        return [*declarations[0].parts]
    lists = [name for name in files.ending(".txt") if "/" not in name and lists_images(files, name)]
    others = lists or _folders(files)
    # Reading a key then says which of its paths is wrong.
    if declarations and others and is_above(declarations[0].name, others[0]):
        return [*declarations[0].parts]
    return others


def _folders(files: Files) -> list[str]:
    """Those that say what they are for, otherwise the one that holds all images with labels."""
    folders = dict.fromkeys(posixpath.dirname(name) for name in few(files.images(), 20, 2000))
    there = [folder for folder in folders if _has_labels(files, folder)]
    if not there:
        return []
    common = posixpath.commonpath(there)
    own = (posixpath.relpath(folder or ".", common or ".") for folder in there)
    parts = folders_of_parts(f"{folder}/image" for folder in own)
    return [posixpath.normpath(posixpath.join(common, part)) for part in parts]


def read(files: Files, part: str, classes: list[str] | None, faults: list[Fault]) -> Labelled:
    """The images of a part; those without label file, or with an empty one, have no boxes.

    Args:
        part: a key of data.yaml or obj.data, a folder, or a list of images that ends in ".txt".
        classes: in the order of their labels; None takes those that are named here, or, where
            none are, "0", "1" and so on.

    Raises:
        DataError: no such part, no images in it, or none with a label file.
    """
    where = part_of(files, part, faults)
    paths = images_of(files, where, faults)
    texts = {path: label_file(files, path) for path in paths}
    if not any(file.is_file() for file in texts.values()):
        first = next(iter(texts.values()), files.root / "labels")
        what = f"none of its {len(texts)} images has a label file, such as {first}"
        raise DataError(Fault(files.root / part, what if texts else "no images"))
    faults += lost_images(files, where.places, texts)
    _report_unlabelled(files, texts)
    declared_names, keypoints = names_of(files, part)
    names = classes if declared_names is None else declared_names
    rows = _rows(texts, faults)
    every = [row for lines in rows.values() for row in lines]
    check_meaning(every, keypoints, where.source, faults)
    images = []
    for path, lines in rows.items():
        try:
            images.append(_image(path, texts[path], lines, names, keypoints, faults))
        except DataError as error:
            faults += error.args
    return labelled(images, classes or names or _numbers(images), faults)


def names_of(files: Files, part: str) -> tuple[list[str] | None, bool]:
    """The classes of a part by their numbers, None where no file names them, and whether lines of
    label files hold key points.
    """
    where = part_of(files, part, [])
    keypoints = where.declaration is not None and where.declaration.keypoints
    return _class_names(files, where), keypoints


def _report_unlabelled(files: Files, texts: dict[Path, Path]) -> None:
    """Whole folders without label files are perhaps not labelled yet."""
    without = Counter(path.parent for path in texts)
    for path in [path for path, file in texts.items() if file.is_file()]:
        without.pop(path.parent, None)
    counts = Counter({path.relative_to(files.root).as_posix(): n for path, n in without.items()})
    what = "no image of these folders has a label file; they count as images without objects"
    report_left_out(counts, files.root, what)


def _class_names(files: Files, part: Part) -> list[str] | None:
    declaration = part.declaration
    if declaration is None or declaration.classes is None:
        return class_list(files, part.places[0]) or None
    count, names = declaration.nc, declaration.classes
    if count is not None and count != len(names):
        warn_of_count(files.root / declaration.name, count, len(names))
    return names


def _rows(texts: dict[Path, Path], faults: list[Fault]) -> dict[Path, list[Row]]:
    """The lines of every image's label file that can be read."""
    rows = {}
    for path, file in texts.items():
        try:
            rows[path] = read_rows(file, faults) if file.is_file() else []
        except DataError as error:
            faults += error.args
    return rows


def _image(
    path: Path,
    file: Path,
    rows: list[Row],
    names: list[str] | None,
    keypoints: bool,
    faults: list[Fault],
) -> NamedBoxes:
    found = []
    for row in rows:
        try:
            found.append(named_box(row, names, keypoints))
        except ValueError as error:
            faults.append(row.fault(error))
    width, height = image_size(path) if found else (0, 0)  # `labelled` finds out by itself
    pixels = [[x1 * width, y1 * height, x2 * width, y2 * height] for _, (x1, y1, x2, y2) in found]
    return NamedBoxes(path, file, width, height, pixels, [name for name, _ in found])


def _numbers(images: list[NamedBoxes]) -> list[str]:
    """ "0", "1" and so on, to the last that occurs."""
    last = max((int(name) for image in images for name in image.names), default=-1)
    return [str(index) for index in range(last + 1)]


def _has_labels(files: Files, folder: str) -> bool:
    """Whether a label file of one of the first images in a folder begins with a box."""
    inside = (name for name in below(files, folder) if posixpath.dirname(name) == folder)
    images = (name for name in inside if is_image(name))
    return any(
        begins_with_box(label_file(files, files.root / image)) for image in islice(images, 20)
    )
