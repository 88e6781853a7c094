"""Data sets in YOLO's layout: a label file of text beside, or in a folder beside, every image."""

import posixpath
import re
from itertools import islice
from pathlib import Path
from reprlib import repr as shortened
from typing import NamedTuple

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import ENDINGS, image_size
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled, NamedBoxes, apart, image_paths, labelled
from detcenter.data.layouts.reading import below, few, head, read_text
from detcenter.data.layouts.shapes import around
from detcenter.data.layouts.yolo_names import Declared, class_list, declared, place

_MOST_UNNAMED = 1000  # classes; a stray number must not make thousands of them
_ROUNDING = 0.01  # by which coordinates may leave 0 to 1


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
    texts = {path: _label_file(files, path) for path in paths}
    if not any(file.is_file() for file in texts.values()):
        first = next(iter(texts.values()), files.root / "labels")
        what = f"none of its {len(texts)} images has a label file, such as {first}"
        raise DataError(Fault(files.root / part, what if texts else "no images"))
    names = where.declaration.classes if where.declaration else None
    if names is None:
        names = class_list(files, where.places[0]) or classes
    keypoints = where.declaration is not None and where.declaration.keypoints
    images = []
    for path, file in texts.items():
        try:
            images.append(_image(path, file, names, keypoints, faults))
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
            lines = read_text(files.root / name).splitlines()
            listed = [line.strip() for line in lines if line.strip()]
            names += listed
            paths += _listed(files, listed, name, part.near, faults)
    return [path for path in apart(names, paths, part.source, faults) if path is not None]


def _listed(
    files: Files, names: list[str], listed_in: str, near: list[str], faults: list[Fault]
) -> list[Path | None]:
    file = files.root / listed_in
    folders = [*dict.fromkeys([posixpath.dirname(listed_in), *near, ""])]
    return image_paths(names, lambda name: files.image(name, folders, file), file, faults)


def _label_file(files: Files, path: Path) -> Path:
    """That of an image; where there is none, where it would be."""
    candidates = _label_names(path.relative_to(files.root).as_posix())
    found = (files.find(name) for name in candidates)
    return files.root / next((name for name in found if name is not None), candidates[0])


def _label_names(image: str) -> list[str]:
    """The last folder `images` becomes `labels`; otherwise beside the image."""
    stem = posixpath.splitext(image)[0]
    instead = re.sub(r"^(.*/|)images/", r"\1labels/", stem, flags=re.DOTALL)
    return [*dict.fromkeys([f"{instead}.txt", f"{stem}.txt"])]


def _image(
    path: Path, file: Path, names: list[str] | None, keypoints: bool, faults: list[Fault]
) -> NamedBoxes:
    text = read_text(file) if file.is_file() else ""
    rows: list[tuple[str, list[float]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            if line.strip():
                rows.append(_row(line, names, keypoints))
        except ValueError as error:
            faults.append(Fault(file, f"line {number}: {error}"))
    width, height = image_size(path) if rows else (0, 0)  # `labelled` finds out by itself
    # Inside the image, or its size would be doubted.
    boxes = [[min(max(v, 0.0), 1.0) for v in box] for _, box in rows]
    pixels = [[x1 * width, y1 * height, x2 * width, y2 * height] for x1, y1, x2, y2 in boxes]
    return NamedBoxes(path, file, width, height, pixels, [name for name, _ in rows])


def _row(line: str, names: list[str] | None, keypoints: bool) -> tuple[str, list[float]]:
    """The class and the box, xyxy in parts of the image.

    Raises:
        ValueError: what is wrong.
    """
    try:
        index, *numbers = map(float, line.split())
    except ValueError:
        raise ValueError(f"{shortened(line)} is not a class and numbers") from None
    if keypoints or len(numbers) == 5:  # the fifth is a score, or the number of a track
        numbers = numbers[:4]
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        needed = "neither a box (x, y, width, height) nor the corners of a polygon"
        raise ValueError(
            f"{len(numbers)} numbers, {needed}; key points need kpt_shape in data.yaml"
        )
    for number in numbers:
        if not -_ROUNDING <= number <= 1 + _ROUNDING:
            what = "YOLO's numbers are parts of the image's width and height, not pixels"
            raise ValueError(f"{number:g} is not between 0 and 1; {what}")
    if len(numbers) > 4:
        return _name(index, names), around([numbers[k : k + 2] for k in range(0, len(numbers), 2)])
    x, y, width, height = numbers
    return _name(index, names), [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _name(index: float, names: list[str] | None) -> str:
    if not index.is_integer() or index < 0:
        raise ValueError(f"class {index:g} is not a number from 0 on")
    if names is None and index >= _MOST_UNNAMED:
        raise ValueError(f"class {index:g}, and no file names the classes")
    if names is not None and index >= len(names):
        raise ValueError(f"class {index:g}, but only classes 0 to {len(names) - 1} have a name")
    return str(int(index)) if names is None else names[int(index)]


def _numbers(images: list[NamedBoxes]) -> list[str]:
    """ "0", "1" and so on, to the last that occurs."""
    last = max((int(name) for image in images for name in image.names), default=-1)
    return [str(index) for index in range(last + 1)]


def _lists_images(files: Files, name: str) -> bool:
    """Whether a text file is a list of images that are here, by its first line."""
    lines = iter(head(files.root / name).decode(errors="replace").splitlines())
    first = next(lines, "").strip()
    if posixpath.splitext(first)[1].lower() not in ENDINGS:
        return False
    try:
        files.image(first, [""], files.root / name)
    except DataError:
        return False
    return True


def _has_labels(files: Files, folder: str) -> bool:
    """Whether a label file of one of the first images in a folder begins with a box."""
    inside = (name for name in below(files, folder) if posixpath.dirname(name) == folder)
    images = (name for name in inside if posixpath.splitext(name)[1].lower() in ENDINGS)
    for image in islice(images, 20):
        text = head(_label_file(files, files.root / image)).decode(errors="replace")
        first = text.splitlines()[0] if text.strip() else ""
        if re.match(r"\s*[0-9]+(\s+[0-9.eE+-]+){4,}\s*$", first):
            return True
    return False
