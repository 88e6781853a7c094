"""Data sets in PASCAL VOC's layout: Annotations/, ImageSets/Main/, JPEGImages/."""

import math
import re
from pathlib import Path
from typing import TypedDict
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from detcenter.data.dataset import Annotation, BoxTransform, DetectionDataset, true_size
from detcenter.data.errors import DataError, nearest


class VOCDataset(DetectionDataset):
    """A PASCAL VOC data set, or any in its layout.

    Pixel coordinates in the files are 1-based and inclusive, so a box becomes
    (xmin - 1, ymin - 1, xmax, ymax): its area and IoU equal the devkit's, which adds 1 to widths.

    Args:
        root: the folder that holds Annotations, ImageSets and JPEGImages.
        image_set: a file of ImageSets/Main without its ".txt". Lines with a second column of -1
            (class-specific sets) are left out.
        classes: names without background; found with `find_classes` when None.

    `image_id` is the position in the list, from 1. The rest is as in `DetectionDataset`.

    Raises:
        DataError: a missing or broken file, or a class that is not in `classes`.
    """

    def __init__(
        self,
        root: str | Path,
        image_set: str = "trainval",
        classes: list[str] | None = None,
        transform: BoxTransform | None = None,
        keep_difficult: bool = False,
    ) -> None:
        root = Path(root)
        names = read_image_set(root, image_set)
        if classes is None:
            classes = find_classes(root)
        annotations = [
            _annotation(root, name, image_id, classes)
            for image_id, name in enumerate(names, start=1)
        ]
        super().__init__(annotations, classes, transform, keep_difficult)


def find_classes(root: str | Path) -> list[str]:
    """Sorted class names of all annotation files, so that every image set agrees on them.

    Raises:
        DataError: no annotation files, or a broken one.
    """
    files = sorted((Path(root) / "Annotations").glob("*.xml"))
    found: set[str] = set()
    for file in files:
        found.update(_text(thing, "name", file) for thing in _read_xml(file).iter("object"))
    if not found:
        folder = Path(root) / "Annotations"
        raise DataError(f"{folder}: no annotated objects; is this the root of a VOC data set?")
    return sorted(found)


def read_image_set(root: Path, image_set: str) -> list[str]:
    """The image names that ImageSets/Main/<image_set>.txt lists."""
    path = root / "ImageSets" / "Main" / f"{image_set}.txt"
    if not path.is_file():
        raise DataError(f"{path}: image set not found; {_sets_beside(path)}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error.reason})") from None
    # A second column, of sets for one class, tells whether the class occurs.
    rows = [re.fullmatch(r"\s*(.*?)(?:\s+(-1|0|1))?\s*", line) for line in lines]
    return [row[1] for row in rows if row and row[1] and row[2] != "-1"]


def _sets_beside(path: Path) -> str:
    if not path.parent.is_dir():
        return "the root must hold Annotations, ImageSets/Main and JPEGImages"
    others = sorted(file.stem for file in path.parent.glob("*.txt"))
    return f"the folder holds {', '.join(others) or 'none'}"


class _Object(TypedDict):
    name: str
    box: list[float]
    difficult: bool


def _annotation(root: Path, name: str, image_id: int, classes: list[str]) -> Annotation:
    file = root / "Annotations" / f"{name}.xml"
    tree = _read_xml(file)
    path = _image_path(root / "JPEGImages", name, tree.findtext("filename"))
    objects = [_object(element, file) for element in tree.iter("object")]
    boxes = np.array([thing["box"] for thing in objects], dtype=np.float32).reshape(-1, 4)
    width, height = true_size(path, _size(tree, "width"), _size(tree, "height"), boxes)
    labels = [_label(thing["name"], classes, file) for thing in objects]
    return Annotation(
        image_id=image_id,
        path=path,
        width=width,
        height=height,
        boxes=boxes,
        labels=np.array(labels, dtype=np.int64),
        iscrowd=np.zeros(len(objects), dtype=bool),
        difficult=np.array([thing["difficult"] for thing in objects], dtype=bool),
        area=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
    )


def _read_xml(path: Path) -> Element:
    try:
        root: Element | None = parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"{path}: annotation file not found") from None
    except (ParseError, DefusedXmlException, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not readable as XML ({reason})") from error
    assert root is not None  # a document without one is a ParseError
    return root


def _image_path(folder: Path, name: str, filename: str | None) -> Path:
    """The annotation's own name with an image's ending, as the devkit has it, else <filename>.

    Many tools rename or copy files and leave <filename> as it was, so it is asked last.
    """
    endings = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
    candidates = [folder / f"{name}{ending}" for ending in endings]
    if filename and filename.strip():
        candidates.append(folder / filename.strip())
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(f"{candidates[0]}: image file not found, nor {name}.jpg, .jpeg or .png")


def _object(element: Element, file: Path) -> _Object:
    bounds = element.find("bndbox")
    if bounds is None:
        raise DataError(f"{file}: an <object> has no <bndbox>")
    box = [_number(bounds, key, file) for key in ("xmin", "ymin", "xmax", "ymax")]
    xmin, ymin, xmax, ymax = box
    if xmax > xmin and ymax > ymin:
        box = [xmin - 1, ymin - 1, xmax, ymax]
    # Otherwise it has no area as annotated: unshifted it keeps none, and is dropped with the rest.
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    return _Object(name=_text(element, "name", file), box=box, difficult=difficult)


def _text(element: Element, key: str, file: Path) -> str:
    text = (element.findtext(key) or "").strip()
    if not text:
        raise DataError(f"{file}: <{element.tag}> has no <{key}>")
    return text


def _number(element: Element, key: str, file: Path) -> float:
    text = _text(element, key, file)
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{file}: <{key}> is {text!r}, not a number") from None


def _size(tree: Element, key: str) -> int:
    """The annotated size in pixels, 0 where it is missing or nonsense."""
    try:
        value = float(tree.findtext(f"size/{key}") or 0)
    except ValueError:
        return 0
    return int(value) if math.isfinite(value) else 0


def _label(name: str, classes: list[str], file: Path) -> int:
    if name not in classes:
        raise DataError(f"{file}: unknown class '{name}'; {nearest(name, classes)}")
    return classes.index(name) + 1
