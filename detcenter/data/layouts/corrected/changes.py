"""What is changed in an image, and which of its boxes that is."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detcenter.data.dataset import Annotation, clean_boxes

_CLOSE = 0.01  # pixels by which the corners of a box may differ from those that were read


class Correction(NamedTuple):
    """What becomes of a box, or of one that is not there yet."""

    box: Sequence[float] | None  # as annotated, xyxy in pixels inside the image; None: to be added
    label: str | None
    new_box: Sequence[float] | None  # likewise; None: it is removed
    new_label: str | None


class Changed(NamedTuple):
    """An image whose boxes are changed."""

    annotation: Annotation
    part: str  # as the reader of the layout takes it
    corrections: Sequence[Correction]


class NotThere(ValueError):
    """No box is where a correction says."""

    def __init__(self, image: Path, what: str) -> None:
        super().__init__(f"{image} has {what}")
        self.image = image
        self.what = what


def positions(
    annotation: Annotation,
    boxes: np.ndarray,
    names: Sequence[str],
    corrections: Sequence[Correction],
) -> list[int | None]:
    """Which of the boxes [M, 4] of an image each correction means; None where it adds one.

    Boxes are told by their corners inside the image and by their class. Of boxes that are there
    several times each correction takes another.

    Raises:
        NotThere: naming the box that is missing.
    """
    inside, _ = clean_boxes(boxes, annotation["width"], annotation["height"])
    left, found = set(range(len(names))), list[int | None]()
    for correction in corrections:
        if correction.box is None:
            found.append(None)
            continue
        close = np.abs(inside - np.asarray(correction.box)).max(axis=1, initial=0) <= _CLOSE
        mine = [n for n in left if close[n] and names[n] == correction.label]
        if not mine:
            corners = ", ".join(f"{x:g}" for x in correction.box)
            raise NotThere(annotation["path"], f"no box [{corners}] of class {correction.label!r}")
        found.append(min(mine))
        left.remove(min(mine))
    return found


def stays(change: Correction) -> bool:
    """Whether the box stays where it is."""
    assert change.new_box is not None
    return change.box is not None and bool(
        np.allclose(change.box, change.new_box, rtol=0, atol=_CLOSE)
    )
