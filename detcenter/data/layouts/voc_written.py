"""Parts of a data set as files in VOC's layout."""

import logging
import posixpath
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from detcenter.data.errors import DataError
from detcenter.data.layouts.written import (
    UNFIT,
    Parts,
    Place,
    Progress,
    image_names,
    link_image,
    paths_of,
    warn_of,
    write_text,
)

logger = logging.getLogger("detcenter")

_OBJECT = """  <object>
    <name>{name}</name>
    <difficult>{difficult:d}</difficult>
    <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
  </object>
"""
_PAGE = """<annotation>
  <filename>{filename}</filename>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
{objects}</annotation>
"""
_APART = 0.01  # pixels between corners that would coincide otherwise


def write_voc(
    out: Path, parts: Parts, place: Place = link_image, progress: Progress = iter
) -> dict[str, int]:
    """Write Annotations, ImageSets/Main/<part>.txt and JPEGImages, all without sub-folders.

    A crowd box becomes a difficult one: both are neither trained on nor counted as missed. A box
    of a pixel or less becomes slightly wider than that. See `written` for the rest.

    Raises:
        DataError: a class name that XML does not give back, or an image that occurs with different
            boxes.
    """
    _check_names(parts)
    warn_of(parts, "iscrowd", "VOC's layout has no such flag, they are written as difficult ones")
    _warn_of_narrow(parts)
    names = image_names(paths_of(parts), flat=True)
    for part_name, part in parts.items():
        stems: dict[str, None] = {}
        for annotation in progress(part.annotations):
            path = annotation["path"]
            stem = posixpath.splitext(names[path])[0]
            page = voc_page(
                names[path],
                (annotation["width"], annotation["height"]),
                annotation["boxes"],
                [part.classes[label - 1] for label in annotation["labels"]],
                annotation["difficult"] | annotation["iscrowd"],
            )
            write_text(out / "Annotations" / f"{stem}.xml", page, path)
            place(path, out / "JPEGImages" / names[path])
            stems[stem] = None
        lines = "".join(f"{stem}\n" for stem in stems)
        write_text(out / "ImageSets" / "Main" / f"{part_name}.txt", lines)
    return {name: sum(len(a["labels"]) for a in part.annotations) for name, part in parts.items()}


def voc_page(
    filename: str,
    size: tuple[int, int],
    boxes: np.ndarray,
    names: Sequence[str],
    difficult: np.ndarray,
) -> str:
    """The XML of an image.

    Args:
        size: (width, height) in pixels.
        boxes: [M, 4], xyxy pixels.
        names: M, of the boxes' classes.
        difficult: bool [M].
    """
    rows = zip(_inclusive(boxes).tolist(), names, difficult.tolist(), strict=True)
    objects = "".join(
        _OBJECT.format(*map(_shortest, corners), name=escape(name), difficult=flag)
        for corners, name, flag in rows
    )
    width, height = size
    return _PAGE.format(filename=escape(filename), width=width, height=height, objects=objects)


def _inclusive(boxes: np.ndarray) -> np.ndarray:
    """Corners as VOC has them, counted from 1 and both inside.

    Those of a box of a pixel or less would coincide or change places, which says that it has no
    area; they are moved apart.
    """
    corners = boxes.astype(np.float64) + [1, 1, 0, 0]
    corners[:, 2:] = np.where(_narrow(boxes), corners[:, :2] + _APART, corners[:, 2:])
    return corners


def _narrow(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, 2:] <= boxes[:, :2] + 1


def _shortest(value: float) -> int | float:
    """As an integer where it is one: many tools read nothing else."""
    return int(value) if value.is_integer() else value


def _check_names(parts: Parts) -> None:
    for name in dict.fromkeys(name for part in parts.values() for name in part.classes):
        if not name or name != name.strip() or UNFIT.search(name):
            what = "it is empty, or has blanks around it or control characters in it"
            raise DataError(f"VOC's layout cannot hold the class name {name!r}: {what}")


def _warn_of_narrow(parts: Parts) -> None:
    boxes = [a["boxes"] for part in parts.values() for a in part.annotations]
    count = sum(int(_narrow(of_image).any(axis=1).sum()) for of_image in boxes)
    if count:
        what = f"VOC's layout cannot say so, they are written {1 + _APART} pixels wide or high"
        logger.warning("boxes of a pixel or less: %d; %s", count, what)
