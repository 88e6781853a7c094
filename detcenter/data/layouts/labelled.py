"""What every layout is turned into: annotations, and the classes that their labels count."""

import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from detcenter.data.dataset import Annotation, keep_annotated_size, true_size
from detcenter.data.errors import DataError, Fault
from detcenter.errors import nearest


class Labelled(NamedTuple):
    """A part of a data set as its files say, before it is cleaned: boxes may be any numbers."""

    annotations: list[Annotation]
    classes: list[str]  # without background; label k is `classes[k - 1]`
    categories: list[dict[str, Any]]  # what a COCO file says of each class; otherwise empty


class NamedBoxes(NamedTuple):
    """An image of a layout that calls its classes by name. M is the number of boxes."""

    path: Path  # of the image, which is there
    file: Path  # that says where the boxes are
    width: int  # pixels as annotated, 0 where nothing is said
    height: int
    boxes: Sequence[Sequence[float]]  # M times xyxy, pixels
    names: Sequence[str]  # M, of the boxes' classes
    iscrowd: Sequence[bool] = ()  # M, or none where nothing is said
    difficult: Sequence[bool] = ()


def labelled(
    images: Sequence[NamedBoxes], classes: list[str] | None, faults: list[Fault]
) -> Labelled:
    """Images by name with labels instead; what cannot be used is left out and put into `faults`.

    Args:
        classes: in the order of their labels; None takes the names that occur, sorted.
    """
    if classes is None:
        classes = sorted({name for image in images for name in image.names})
    labels: dict[str, int] = {}
    for label, name in enumerate(classes, start=1):
        labels.setdefault(name, label)
    annotations = []
    for image_id, image in enumerate(images, start=1):
        try:
            annotations.append(_annotation(image_id, image, labels, faults))
        except DataError as error:
            faults += error.args
    return Labelled(annotations, classes, [])


def _annotation(
    image_id: int, image: NamedBoxes, labels: dict[str, int], faults: list[Fault]
) -> Annotation:
    known = np.array([name in labels for name in image.names], dtype=bool)
    for name in dict.fromkeys(name for name in image.names if name not in labels):
        what = f"unknown class {name!r}; {nearest(name, [*labels])}"
        faults.append(Fault(image.file, what))
    annotation = annotated(
        image_id,
        image.path,
        image.file,
        (image.width, image.height),
        np.array(image.boxes, dtype=np.float64).reshape(-1, 4)[known],
        [labels[name] for name in image.names if name in labels],
        _flags(image.difficult, known),
    )
    annotation["iscrowd"] = _flags(image.iscrowd, known)
    return annotation


def annotated(
    image_id: int,
    path: Path,
    file: Path,
    size: tuple[int, int],
    boxes: np.ndarray,
    labels: Sequence[int],
    difficult: Sequence[bool] | np.ndarray,
) -> Annotation:
    """An annotation without crowds, of an image that is there.

    Args:
        file: that says where the boxes are.
        size: (width, height) in pixels as annotated, 0 where nothing is said.
        boxes: float64 [M, 4], xyxy pixels.
        labels: M, from 1.
        difficult: M.

    Raises:
        DataError: the size has to be the image's, and its header cannot be read.
    """
    width, height = true_size(path, *size, boxes)
    with np.errstate(over="ignore", invalid="ignore"):  # of boxes that are dropped
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    annotation = Annotation(
        image_id=image_id,
        path=path,
        file=file,
        width=width,
        height=height,
        boxes=boxes,
        labels=np.array(labels, dtype=np.int64),
        iscrowd=np.zeros(len(boxes), dtype=bool),
        difficult=np.array(difficult, dtype=bool),
        area=area,
    )
    keep_annotated_size(annotation, *size)
    return annotation


def _flags(given: Sequence[bool], known: np.ndarray) -> np.ndarray:
    flags = np.array(given, dtype=bool) if len(given) else np.zeros(len(known), dtype=bool)
    return flags[known]


def image_paths(
    names: Sequence[str], find: Callable[[str], Path], file: Path, faults: list[Fault]
) -> list[Path | None]:
    """Where the images are that `file` calls `names`, each an image of its own; None for others.

    Args:
        find: gives the path of a name, or raises DataError.
    """
    paths: list[Path | None] = []
    for name in names:
        try:
            paths.append(find(name))
        except DataError as error:
            faults += error.args
            paths.append(None)
    return apart(names, paths, file, faults)


def apart(
    names: Sequence[str], paths: Sequence[Path | None], file: Path, faults: list[Fault]
) -> list[Path | None]:
    """`paths`, with None for an image that another name in `file` stands for as well.

    Where names of another machine are shortened to what is here, `old/1.jpg` and `new/1.jpg` may
    both end at one image, and nobody knows whose the boxes are. The name that fits as a whole
    keeps the image; of a name that occurs twice the first.
    """
    found: dict[Path, list[int]] = {}
    for position, path in enumerate(paths):
        if path is not None:
            found.setdefault(path, []).append(position)
    kept = list(paths)
    for path, positions in found.items():
        if len(positions) == 1:
            continue
        called = [*dict.fromkeys(names[position] for position in positions)]
        fitting = [p for p in positions if len(called) == 1 or _fits_whole(names[p], path)]
        for position in positions:
            if position not in fitting[:1]:
                kept[position] = None
        faults.append(Fault(file, _both(called, path)))
    return kept


def _both(called: list[str], path: Path) -> str:
    if len(called) == 1:
        return f"the image {called[0]!r} occurs twice"
    names = " and ".join(repr(name) for name in called[:3]) + (" and …" if called[3:] else "")
    return f"{names} would be the same image, {path}; put images where their names say"


def _fits_whole(name: str, path: Path) -> bool:
    """Whether the path ends in the name, but for its ending: annotations are named after images."""
    stem = posixpath.splitext(path.as_posix())[0]
    slashed = name.replace("\\", "/")
    spelled = {posixpath.normpath(text) for text in (name, slashed, unquote(slashed))}
    return any(f"/{stem}".endswith("/" + posixpath.splitext(text)[0]) for text in spelled)
