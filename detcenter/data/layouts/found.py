"""Which layout a folder has, and which parts."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts import coco, cvat, label_studio, labelme, table, voc, yolo
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled
from detcenter.data.layouts.parts import part_for


class Layout(NamedTuple):
    """One way to lay out a data set."""

    find_parts: Callable[[Files], list[str]]
    read: Callable[[Files, str, list[str] | None, list[Fault]], Labelled]


# In the order in which they are looked for: exports often have several side by side.
LAYOUTS: dict[str, Layout] = {
    "voc": Layout(voc.find_parts, voc.read),
    "coco": Layout(coco.find_parts, coco.read),
    "yolo": Layout(yolo.find_parts, yolo.read),
    "cvat": Layout(cvat.find_parts, cvat.read),
    "label_studio": Layout(label_studio.find_parts, label_studio.read),
    "labelme": Layout(labelme.find_parts, labelme.read),
    "table": Layout(table.find_parts, table.read),
}


class Found(NamedTuple):
    """A layout that a folder has."""

    format: str
    train: str
    val: str | None  # None: all images are in one part
    others: list[str]  # that the folder has too


def find_layout(files: Files, formats: list[str] | None = None) -> Found:
    """The layout of a folder, and its parts for training and evaluation.

    Args:
        formats: to choose from; None is all.

    Raises:
        DataError: it has none of them.
    """
    parts = {name: LAYOUTS[name].find_parts(files) for name in formats or LAYOUTS}
    there = [name for name in parts if parts[name]]
    if not there:
        raise DataError(Fault(files.root, _nothing(files, list(parts))))
    names = parts[there[0]]
    train = part_for("train", names)
    val = part_for("val", names)
    if train is None:  # all there is, in one part; of several files the shortest name
        train, val = min(names, key=lambda name: (len(name), name)), None
    return Found(there[0], train, val if val != train else None, there[1:])


def _nothing(files: Files, formats: list[str]) -> str:
    endings: dict[str, int] = {}
    for name in files.names:
        ending = Path(name).suffix.lower() or "no ending"
        endings[ending] = endings.get(ending, 0) + 1
    most = sorted(endings.items(), key=lambda pair: -pair[1])[:4]
    held = ", ".join(f"{count} files with {ending}" for ending, count in most) or "no files"
    return f"no annotations of {', '.join(formats)} found; the folder holds {held}"
