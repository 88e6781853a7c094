"""Data sets in YOLO's layout: a label file of text beside, or in a folder beside, every image."""

import posixpath
from itertools import islice
from pathlib import Path
from reprlib import repr as shortened
from typing import NamedTuple

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import ENDINGS, image_size
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled, NamedBoxes, apart, image_paths, labelled
from detcenter.data.layouts.reading import below, few, head, read_text
from detcenter.data.layouts.yolo_labels import (
    Row,
    begins_with_box,
    check_meaning,
    label_file,
    named_box,
    read_rows,
)
from detcenter.data.layouts.yolo_names import Declared, class_list, declared, place

_FIRST = 40  # lines of a list, which tell that it is one


class Part(NamedTuple):
    """Where the images of a part are."""

    places: list[str]  # folders and lists of images, below the root
    source: Path  # that says so
    declaration: Declared | None
    near: list[str]  # folders that lists may be relative to


def find_parts(files: Files) -> list[str]:
    """Names of the parts that can be read here: keys of data.yaml, else lists and folders."""
    for declaration in declared(files, []):
        keys = [key for key in declaration.parts if _places(files, declaration, key)]
        if keys:
            return keys
    lists = [
        name for name in files.ending(".txt") if "/" not in name and _lists_images(files, name)
    ]
    folders = dict.fromkeys(posixpath.dirname(name) for name in few(files.images(), 20, 2000))
    return lists or [folder or "." for folder in folders if _has_labels(files, folder)]


def read(files: Files, part: str, classes: list[str] | None, faults: list[Fault]) -> Labelled:
    """The images of a part; those without label file, or with an empty one, have no boxes.

    Args:
        part: a key of data.yaml or obj.data, a folder, or a list of images that ends in ".txt".
        classes: in the order of their labels; None takes those that are named here, or, where
            none are, "0", "1" and so on.

    Raises:
        DataError: no such part, no images in it, or none with a label file.
    """
    where = _part(files, part)
    paths = _images(files, where, faults)
    texts = {path: label_file(files, path) for path in paths}
    if not any(file.is_file() for file in texts.values()):
        first = next(iter(texts.values()), files.root / "labels")
        what = f"none of its {len(texts)} images has a label file, such as {first}"
        raise DataError(Fault(files.root / part, what if texts else "no images"))
    names = where.declaration.classes if where.declaration else None
    if names is None:
        names = class_list(files, where.places[0]) or classes
    keypoints = where.declaration is not None and where.declaration.keypoints
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


def _part(files: Files, part: str) -> Part:
    broken: list[Fault] = []
    declarations = declared(files, broken)
    for declaration in declarations:
        if part in declaration.parts:
            places = _places(files, declaration, part)
            file = files.root / declaration.name
            if len(places) < len(declaration.parts[part]):
                written = ", ".join(declaration.parts[part])
                raise DataError(Fault(file, f"{part}: {shortened(written)} is not below the root"))
            _check_distinct(files, declaration, part)
            path = place(files, declaration, ".") or ""
            return Part(places, file, declaration, [posixpath.dirname(declaration.name), path])
    if broken and part in ("train", "val", "test"):
        raise DataError(broken[0])
    name = posixpath.normpath(part.replace("\\", "/"))
    listed = files.find(name)
    if listed is None and not below(files, name):
        raise DataError(Fault(files.root / part, "no such folder, list, or key of data.yaml"))
    first = declarations[0] if declarations else None
    return Part([listed or name], files.root / name, first, [])


def _places(files: Files, declaration: Declared, part: str) -> list[str]:
    """The folders and lists of a part that are here."""
    found = [place(files, declaration, written) for written in declaration.parts[part]]
    return [name for name in found if name is not None]


def _check_distinct(files: Files, declaration: Declared, part: str) -> None:
    """Two paths of another machine may be shortened to one folder here."""
    for other, written in declaration.parts.items():
        same = {*_places(files, declaration, other)} & {*_places(files, declaration, part)}
        if same and written != declaration.parts[part]:
            what = f"{part} and {other} would both be {min(same)}; put both where it says"
            raise DataError(Fault(files.root / declaration.name, what))


def _images(files: Files, part: Part, faults: list[Fault]) -> list[Path]:
    names: list[str] = []
    paths: list[Path | None] = []
    for name in part.places:
        if below(files, name):
            images = [n for n in below(files, name) if posixpath.splitext(n)[1].lower() in ENDINGS]
            names += images
            paths += [files.root / image for image in images]
        else:
            folders = [*dict.fromkeys([posixpath.dirname(name), *part.near, ""])]
            listed = _entries(files, read_text(files.root / name), folders)
            names += listed
            paths += _listed(files, listed, files.root / name, folders, faults)
    return [path for path in apart(names, paths, part.source, faults) if path is not None]


def _entries(files: Files, text: str, folders: list[str]) -> list[str]:
    """The lines of a list, without comments: those after "#", unless an image is called so."""
    lines = [line.strip() for line in text.splitlines()]
    return [
        line
        for line in lines
        if line and (line[0] != "#" or any(files.find(posixpath.join(f, line)) for f in folders))
    ]


def _listed(
    files: Files, names: list[str], file: Path, folders: list[str], faults: list[Fault]
) -> list[Path | None]:
    return image_paths(names, lambda name: files.image(name, folders, file), file, faults)


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


def _lists_images(files: Files, name: str) -> bool:
    """Whether a text file is a list of images, some of which are here, by its first lines."""
    lines = head(files.root / name).decode("utf-8-sig", errors="replace").splitlines()
    entries = _entries(files, "\n".join(lines[:_FIRST]), [""])
    images = [line for line in entries if posixpath.splitext(line)[1].lower() in ENDINGS]
    return len(images) > len(entries) / 2 and any(_is_here(files, line) for line in images)


def _is_here(files: Files, image: str) -> bool:
    try:
        files.image(image, [""], files.root)
    except DataError:
        return False
    return True


def _has_labels(files: Files, folder: str) -> bool:
    """Whether a label file of one of the first images in a folder begins with a box."""
    inside = (name for name in below(files, folder) if posixpath.dirname(name) == folder)
    images = (name for name in inside if posixpath.splitext(name)[1].lower() in ENDINGS)
    return any(
        begins_with_box(label_file(files, files.root / image)) for image in islice(images, 20)
    )
