"""What all layouts have in common where they are written: names of images, links, text files.

The writers, `write_coco`, `write_voc` and `write_yolo`, take an empty folder and the parts of a
data set by the names that they get there, "train" and "val". They return how many boxes of each
they wrote. Where a layout has no place for what a part says, a warning of the logger "detcenter"
counts the boxes. Sizes in the annotations have to be those of the images themselves.
"""

import logging
import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from detcenter.data.dataset import DetectionDataset
from detcenter.data.errors import DataError, Fault

logger = logging.getLogger("detcenter")

Parts = Mapping[str, DetectionDataset]
Place = Callable[[Path, Path], None]
"""`link_image` or `copy_image`, called with an image and the file that it becomes."""
Progress = Callable[[Iterable[Any]], Iterable[Any]]
"""Wraps what is iterated over, as `tqdm` does."""

UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""Characters that UTF-8, the lines of a text file or XML cannot hold."""


def image_names(paths: Iterable[Path], flat: bool = False) -> dict[Path, str]:
    """A name for every image: where it is below the folder that holds them all.

    No two have the same name without its ending, in upper and lower case either; a later one gets
    "-2" and so on. Characters of `UNFIT`, and the dot of a hidden file, become "_".

    Args:
        flat: without sub-folders, blanks and quotes, which lists of names are split at: all of
            them become "_". Otherwise "/" separates folders.
    """
    files = {path: os.path.abspath(path) for path in paths}
    above = os.path.commonpath([*map(os.path.dirname, files.values())]) if files else ""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path, file in files.items():
        name = _fit(Path(os.path.relpath(file, above)).as_posix(), flat)
        stem, ending = posixpath.splitext(name)
        unique, number = stem, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.casefold())
        names[path] = f"{unique}{ending}"
    return names


def link_image(image: Path, target: Path) -> None:
    """A link to the image, or a copy where the file system has no links; one there is left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # of an image that is in both parts
        return
    try:
        target.symlink_to(image.resolve())
    except OSError:  # a file system without links
        shutil.copyfile(image, target)


def copy_image(image: Path, target: Path) -> None:
    """A copy of the image; one that is there is left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(image, target)


def _fit(name: str, flat: bool) -> str:
    name = re.sub(r"(^|/)\.", r"\1_", name)
    if flat:
        name = re.sub(r"[\s/\"']", "_", name)
    return UNFIT.sub("_", name)


def paths_of(parts: Parts) -> list[Path]:
    return [annotation["path"] for part in parts.values() for annotation in part.annotations]


def write_text(file: Path, text: str, image: Path | None = None) -> None:
    """Write a file in UTF-8.

    Args:
        image: whose boxes `text` is.

    Raises:
        DataError: `image` has such a file already, which says something else.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if image is not None and file.exists() and file.read_text(encoding="utf-8") != text:
        what = "occurs twice with different boxes; this layout has one list of them for an image"
        raise DataError(Fault(image, what))
    file.write_text(text, encoding="utf-8")


def warn_of(parts: Parts, flag: Literal["iscrowd", "difficult"], what: str) -> None:
    """Count the boxes with a flag that the layout does not know, and say what becomes of them."""
    count = sum(int(a[flag].sum()) for part in parts.values() for a in part.annotations)
    if count:
        named = {"iscrowd": "crowd boxes", "difficult": "boxes flagged difficult"}[flag]
        logger.warning("%s: %d; %s", named, count, what)
