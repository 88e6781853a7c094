"""PASCAL VOC's layout, and XML files like VOC's in whatever folders.

VOC has Annotations/, ImageSets/Main/ with lists of names, and JPEGImages/. People have the XML
files beside the images, parts in folders of their own, and lists of all kinds of lines.
"""

import contextlib
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from detcenter.data.dataset import (
    Annotation,
    BoxTransform,
    DetectionDataset,
)
from detcenter.data.errors import DataError, Fault, raise_or_add
from detcenter.data.layouts.files import Files, ends_of, leads_out
from detcenter.data.layouts.labelled import Labelled, annotated, apart
from detcenter.data.layouts.parts import folders_of_parts
from detcenter.data.layouts.reading import head, warn_once
from detcenter.data.layouts.voc_lists import Entry, list_of, listed, lists_in, without_ending
from detcenter.data.layouts.voc_xml import boxes_in, name_in, read_objects, read_xml, size_in


class VOCDataset(DetectionDataset):
    """A PASCAL VOC data set, or any with XML files like VOC's.

    Pixel coordinates in the files are 1-based and inclusive, so a box becomes
    (xmin - 1, ymin - 1, xmax, ymax): its area and IoU equal the devkit's, which adds 1 to widths.

    Args:
        root: the folder that holds Annotations, ImageSets and JPEGImages; or others.
        image_set: a file of ImageSets/Main without its ".txt", another list below `root`, or a
            folder of XML files there, "." for all. See `voc_lists`.
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
        found: list[Fault] = []
        read_from = read(Files(Path(root)), image_set, classes, found)
        raise_or_add(found, faults)
        super().__init__(read_from.annotations, read_from.classes, transform, keep_difficult)


def find_parts(files: Files) -> list[str]:
    """Names of the parts that can be read here; none if no XML file is like VOC's.

    Lists, or where there are none the folders whose names say what they are for, or ".".
    """
    pages = files.ending(".xml")
    if not any(_is_page(files.root / name) for name in pages[:: max(1, len(pages) // 20)]):
        return []
    return lists_in(files) or folders_of_parts(pages)


def read(files: Files, part: str, classes: list[str] | None, faults: list[Fault]) -> Labelled:
    """The images of a part; what is wrong with single ones goes to `faults`.

    Args:
        part: as in `VOCDataset`.
        classes: None is what `find_classes` finds.

    Raises:
        DataError: no such part, or no classes.
    """
    entries = listed(files, part)
    if classes is None:
        classes = _classes(files, [part])
    annotations: dict[str, Annotation] = {}
    for image_id, entry in enumerate(entries, start=1):
        try:
            if entry.page in annotations:
                raise DataError(Fault(entry.named_by, f"the name {entry.name!r} occurs twice"))
            annotations[entry.page] = _annotation(files, entry, image_id, classes, faults)
        except DataError as error:
            faults += error.args
    images = [annotation["path"] for annotation in annotations.values()]
    if list_of(files, part) is None:
        _count_unlabelled(files, images, entries)
    kept = apart([*annotations], images, files.root / part, faults)
    pairs = zip(annotations.values(), kept, strict=True)
    return Labelled([a for a, path in pairs if path is not None], classes, [])


def _count_unlabelled(files: Files, used: list[Path], entries: list[Entry]) -> None:
    """Say how many images beside those of a part have no XML file: nobody labelled them."""
    folders = {path.parent for path in used}
    names = {path.stem for path in used} | {Path(entry.page).stem for entry in entries}
    images = [files.root / name for name in files.images()]
    left = [path for path in images if path.parent in folders and path.stem not in names]
    if left:
        few = ", ".join(path.name for path in left[:3]) + (", …" if left[3:] else "")
        warn_once(f"{files.root}: left out images without an XML file: {len(left)} ({few})")


def find_classes(root: str | Path) -> list[str]:
    """Sorted class names in the XML files of all parts, so that all of them agree on the classes.

    Files that are broken are passed over: they are no matter unless they are in the part that is
    read, where they are reported.

    Raises:
        DataError: no annotated objects, or only in broken files.
    """
    return _classes(Files(Path(root)), [])


def _classes(files: Files, parts: list[str]) -> list[str]:
    """Those of `parts` and of all parts that are found."""
    names: set[str] = set()
    faults: list[Fault] = []
    for page in dict.fromkeys(_pages_of([*parts, *find_parts(files)], files)):
        file = files.root / page
        try:
            names.update(name_in(thing, file) for thing in read_xml(file).iter("object"))
        except DataError as error:
            faults += error.args
    if not names:
        nothing = "no annotated objects; is this the root of a VOC data set?"
        raise DataError(*(faults or [Fault(files.root, nothing)]))
    return sorted(names)


def _pages_of(parts: list[str], files: Files) -> Iterator[str]:
    for part in dict.fromkeys(parts):
        with contextlib.suppress(DataError):  # a list that is not a text file, say
            yield from (entry.page for entry in listed(files, part))


def _annotation(
    files: Files, entry: Entry, image_id: int, classes: list[str], faults: list[Fault]
) -> Annotation:
    if leads_out(entry.page) or (leads_out(entry.name) and files.find(entry.page) is None):
        what = f"the name {entry.name!r} leads out of {files.root / 'Annotations'}"
        raise DataError(Fault(entry.named_by, what))
    file = files.root / entry.page
    tree = read_xml(file)
    path = _image_path(files, entry.page, tree)
    objects = read_objects(tree, file, classes, faults)
    annotation = annotated(
        image_id,
        path,
        file,
        (size_in(tree, "width"), size_in(tree, "height")),
        boxes_in(objects),
        [thing.label for thing in objects],
        [thing.difficult for thing in objects],
    )
    counts = Counter(id(thing.element) for thing in objects)
    if len(counts) < len(objects):
        annotation["siblings"] = np.array([counts[id(thing.element)] > 1 for thing in objects])
    return annotation


def _image_path(files: Files, page: str, tree: Element) -> Path:
    """The image of the XML file's own name, as the devkit has it, else <filename>.

    Many tools rename or copy files and leave <filename> as it was, so it is asked last, or which of
    several images is meant.
    """
    stem = without_ending(page)
    as_voc = stem.replace("Annotations/", "JPEGImages/", 1)
    filename, path, folder = (
        (tree.findtext(key) or "").strip() for key in ("filename", "path", "folder")
    )
    for found in (files.images_of(as_voc), files.images_of(stem), files.images_like(stem, ".xml")):
        if found:
            said = [path, f"{folder}/{filename}", filename]
            return files.root / _meant(found, said, files.root / page)
    name = posixpath.basename(stem)
    beside = posixpath.dirname(as_voc)
    if filename:
        folders = dict.fromkeys([beside, posixpath.dirname(page), "JPEGImages", ""])
        return files.image(filename, [*folders], files.root / page)
    what = f"image file not found, nor {name}.jpg, .jpeg or .png"
    raise DataError(Fault(files.root / beside / f"{name}.jpg", what))


def _meant(images: list[str], said: list[str], file: Path) -> str:
    """The one of several images that an XML file's texts speak of, or the first of a folder."""
    for end in (end for text in said for end in ends_of(text)):
        agreeing = [name for name in images if f"/{name}".endswith(f"/{end}")]
        if len(agreeing) == 1:
            return agreeing[0]
    if len({posixpath.dirname(name) for name in images}) > 1:
        raise DataError(Fault(file, f"its image may be {' or '.join(map(repr, images[:3]))}"))
    return images[0]


def _is_page(path: Path) -> bool:
    start = head(path).replace(b"\0", b"")  # of UTF-16
    return re.search(rb"<annotation[\s>]", start) is not None
