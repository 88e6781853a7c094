"""Data sets in PASCAL VOC's layout: Annotations/, ImageSets/Main/, JPEGImages/."""

import os
import re
from collections.abc import Container
from pathlib import Path

import numpy as np

from detcenter.data.dataset import (
    Annotation,
    BoxTransform,
    DetectionDataset,
    keep_annotated_size,
    true_size,
)
from detcenter.data.errors import DataError, Fault, raise_or_add
from detcenter.data.layouts.paths import path_below
from detcenter.data.layouts.voc_xml import boxes_in, read_objects, read_xml, size_in, text_in


class VOCDataset(DetectionDataset):
    """A PASCAL VOC data set, or any in its layout.

    Pixel coordinates in the files are 1-based and inclusive, so a box becomes
    (xmin - 1, ymin - 1, xmax, ymax): its area and IoU equal the devkit's, which adds 1 to widths.

    Args:
        root: the folder that holds Annotations, ImageSets and JPEGImages.
        image_set: a file of ImageSets/Main without its ".txt". Lines with a second column of -1
            (class-specific sets) are left out.
        classes: names without background; found with `find_classes` when None.
        faults: a list that takes what is wrong with single images and objects, which are left out;
            without one, all of it is raised.

    `image_id` is the position in the list, from 1. The rest is as in `DetectionDataset`.

    Raises:
        DataError: no such image set, or no classes; without `faults`, missing or broken files and
            classes that are not in `classes`.
    """

    def __init__(
        self,
        root: str | Path,
        image_set: str = "trainval",
        classes: list[str] | None = None,
        transform: BoxTransform | None = None,
        keep_difficult: bool = False,
        faults: list[Fault] | None = None,
    ) -> None:
        root, found = Path(root), list[Fault]()
        names, listed = read_image_set(root, image_set), image_set_path(root, image_set)
        if classes is None:
            classes = find_classes(root)
        annotations: dict[str, Annotation] = {}
        for image_id, name in enumerate(names, start=1):
            try:
                _check_new(name, annotations, listed)
                file = annotation_path(root, name, listed)
                annotations[name] = _annotation(root, file, name, image_id, classes, found)
            except DataError as error:
                found += error.args
        raise_or_add(found, faults)
        super().__init__([*annotations.values()], classes, transform, keep_difficult)


def find_classes(root: str | Path) -> list[str]:
    """Sorted class names of all annotation files, so that every image set agrees on them.

    Files that are broken are passed over: they are no matter unless they are in the set that is
    read, where they are reported.

    Raises:
        DataError: no annotated objects, or only in broken files.
    """
    folder = Path(root) / "Annotations"
    found: set[str] = set()
    faults: list[Fault] = []
    for file in sorted(folder.glob("*.xml")):
        try:
            found.update(text_in(thing, "name", file) for thing in read_xml(file).iter("object"))
        except DataError as error:
            faults += error.args
    if not found:
        nothing = "no annotated objects; is this the root of a VOC data set?"
        raise DataError(*(faults or [Fault(folder, nothing)]))
    return sorted(found)


def image_set_path(root: Path, image_set: str) -> Path:
    """Where the names of an image set are."""
    return root / "ImageSets" / "Main" / f"{image_set}.txt"


def read_image_set(root: Path, image_set: str) -> list[str]:
    """The image names that ImageSets/Main/<image_set>.txt lists."""
    path = image_set_path(root, image_set)
    if not path.is_file():
        raise DataError(Fault(path, f"image set not found; {_sets_beside(path)}"))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(Fault(path, f"not a text file in UTF-8 ({error.reason})")) from None
    names = (_listed_name(line.strip(), root / "Annotations") for line in lines)
    return [name for name in names if name]


def _listed_name(line: str, annotations: Path) -> str | None:
    """A second column, of sets for one class, tells whether the class occurs; -1 is for not."""
    row = re.fullmatch(r"(.*?)\s+(-1|0|1)", line)
    if row is None or os.path.isfile(annotations / f"{line}.xml"):  # "photo 1" may be a name
        return line
    return None if row[2] == "-1" else row[1]


def _sets_beside(path: Path) -> str:
    if not path.parent.is_dir():
        return "the root must hold Annotations, ImageSets/Main and JPEGImages"
    others = sorted(file.stem for file in path.parent.glob("*.txt"))
    return f"the folder holds {', '.join(others) or 'none'}"


def _check_new(name: str, known: Container[str], file: Path) -> None:
    if name in known:
        raise DataError(Fault(file, f"the name {name!r} occurs twice"))


def _annotation(
    root: Path, file: Path, name: str, image_id: int, classes: list[str], faults: list[Fault]
) -> Annotation:
    tree = read_xml(file)
    path = _image_path(root / "JPEGImages", name, tree.findtext("filename"), file)
    objects = [thing for _, thing in read_objects(tree, file, classes, faults)]
    boxes = boxes_in(objects)
    with np.errstate(over="ignore", invalid="ignore"):  # of boxes that are dropped
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    annotated = size_in(tree, "width"), size_in(tree, "height")
    width, height = true_size(path, *annotated, boxes)
    annotation = Annotation(
        image_id=image_id,
        path=path,
        width=width,
        height=height,
        boxes=boxes,
        labels=np.array([thing["label"] for thing in objects], dtype=np.int64),
        iscrowd=np.zeros(len(objects), dtype=bool),
        difficult=np.array([thing["difficult"] for thing in objects], dtype=bool),
        area=area,
    )
    keep_annotated_size(annotation, *annotated)
    return annotation


def annotation_path(root: Path, name: str, listed: Path) -> Path:
    """The XML file of the image that `listed` names.

    Raises:
        DataError: the name leads out of the annotations.
    """
    return path_below(root / "Annotations", f"{name}.xml", listed)


def _image_path(folder: Path, name: str, filename: str | None, file: Path) -> Path:
    """The annotation's own name with an image's ending, as the devkit has it, else <filename>.

    Many tools rename or copy files and leave <filename> as it was, so it is asked last.
    """
    endings = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
    candidates = [f"{name}{ending}" for ending in endings]
    if filename and filename.strip():
        candidates.append(filename.strip())
    for candidate in candidates:
        path = path_below(folder, candidate, file)
        if os.path.isfile(path):
            return path
    what = f"image file not found, nor {name}.jpg, .jpeg or .png"
    raise DataError(Fault(folder / candidates[0], what))
