"""What every layout is turned into: annotations, and the classes that their labels count."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detcenter.data.dataset import Annotation, true_size
from detcenter.data.errors import DataError, Fault, nearest


class Labelled(NamedTuple):
    """A part of a data set as its files say, before it is cleaned: boxes may be any numbers."""

    annotations: list[Annotation]
    classes: list[str]  # without background; label k is `classes[k - 1]`
    category_ids: list[int | str]  # what COCO result files call them


class NamedBoxes(NamedTuple):
    """An image of a layout that calls its classes by name. M is the number of boxes."""

    path: Path  # of the image, which is there
    file: Path  # that says where the boxes are
    width: int  # pixels as annotated, 0 where nothing is said
    height: int
    boxes: Sequence[Sequence[float]]  # M times xyxy, pixels
    names: Sequence[str]  # M, of the boxes' classes


def labelled(
    images: Sequence[NamedBoxes], classes: list[str] | None, faults: list[Fault]
) -> Labelled:
    """Images by name with labels instead; what cannot be used is left out and put into `faults`.

    Args:
        classes: in the order of their labels; None takes the names that occur, sorted.
    """
    if classes is None:
        classes = sorted({name for image in images for name in image.names})
    annotations = []
    for image_id, image in enumerate(images, start=1):
        try:
            annotations.append(_annotation(image_id, image, classes, faults))
        except DataError as error:
            faults += error.args
    return Labelled(annotations, classes, [*range(1, len(classes) + 1)])


def _annotation(
    image_id: int, image: NamedBoxes, classes: list[str], faults: list[Fault]
) -> Annotation:
    known = [name in classes for name in image.names]
    unknown = {
        name: None for name, is_known in zip(image.names, known, strict=True) if not is_known
    }
    faults += [
        Fault(image.file, f"unknown class {name!r}; {nearest(name, classes)}") for name in unknown
    ]
    boxes = np.array(image.boxes, dtype=np.float64).reshape(-1, 4)[known]
    labels = [classes.index(name) + 1 for name in image.names if name in classes]
    width, height = true_size(image.path, image.width, image.height, boxes)
    with np.errstate(over="ignore", invalid="ignore"):  # of boxes that are dropped
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return Annotation(
        image_id=image_id,
        path=image.path,
        file=image.file,
        width=width,
        height=height,
        boxes=boxes,
        labels=np.array(labels, dtype=np.int64),
        iscrowd=np.zeros(len(boxes), dtype=bool),
        difficult=np.zeros(len(boxes), dtype=bool),
        area=area,
    )
