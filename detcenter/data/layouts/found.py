"""Which layout a folder has, and which parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts import coco, cvat, label_studio, labelme, table, voc, yolo
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled
from detcenter.data.layouts.parts import outside, part_for


class Layout(NamedTuple):
    """One way to lay out a data set."""

    find_parts: Callable[[Files], list[str]]
    read: Callable[[Files, str, list[str] | None, list[Fault]], Labelled]
    pages: str | None = None
    """Ending of the annotation files, where every image has its own."""


# In the order in which they are looked for: exports often have several side by side.
LAYOUTS: dict[str, Layout] = {
    "voc": Layout(voc.find_parts, voc.read, ".xml"),
    "coco": Layout(coco.find_parts, coco.read),
    "yolo": Layout(yolo.find_parts, yolo.read),
    "cvat": Layout(cvat.find_parts, cvat.read),
    "label_studio": Layout(label_studio.find_parts, label_studio.read),
    "labelme": Layout(labelme.find_parts, labelme.read, ".json"),
    "table": Layout(table.find_parts, table.read),
}


class Found(NamedTuple):
    """A layout that a folder has."""

    format: str
    train: str
    val: str | None  # None: all images are in one part
    others: list[str]  # that the folder has too
    outside: list[str]  # folders with annotation files that are in no part


def find_layout(
    files: Files,
    formats: list[str] | None = None,
    train: str | None = None,
    val: str | None = None,
) -> Found:
    """The layout of a folder, and its parts for training and evaluation.

    Args:
        formats: to choose from; None is all.
        train, val: parts that are known.

    Raises:
        DataError: it has none of them; several parts are as good.
    """
    parts = {name: LAYOUTS[name].find_parts(files) for name in formats or LAYOUTS}
    there = [name for name in parts if parts[name]]
    if not there:
        raise DataError(Fault(files.root, _nothing(files, list(parts))))
    names = parts[there[0]]
    if val is None:
        val = _part("val", names, files)
    if train is None:
        train = _part("train", names, files) or _all_in_one(names, files)
    ending = LAYOUTS[there[0]].pages
    pages = [] if ending is None else files.ending(ending)
    are_folders = all(any(page.startswith(f"{name}/") for page in pages) for name in names)
    left_out = outside(pages, names) if are_folders else []
    return Found(there[0], train, val if val != train else None, there[1:], left_out)


def _part(role: Literal["train", "val"], names: list[str], files: Files) -> str | None:
    try:
        return part_for(role, names)
    except ValueError as error:
        what = f"several parts could be data.{role}: {error}; name one of them"
        raise DataError(Fault(files.root, what)) from None


def _all_in_one(names: list[str], files: Files) -> str:
    """The only part, whatever it is called."""
    if len(names) > 1:
        few = ", ".join(names[:5]) + (", …" if names[5:] else "")
        what = f"several parts, and no name says which is for training: {few}; set data.train"
        raise DataError(Fault(files.root, what))
    return names[0]


def _nothing(files: Files, formats: list[str]) -> str:
    endings: dict[str, int] = {}
    for name in files.names:
        ending = Path(name).suffix.lower() or "no ending"
        endings[ending] = endings.get(ending, 0) + 1
    most = sorted(endings.items(), key=lambda pair: -pair[1])[:4]
    held = ", ".join(f"{count} files with {ending}" for ending, count in most) or "no files"
    return f"no annotations of {', '.join(formats)} found; the folder holds {held}"
