"""Boxes in the command line: x1,y1,x2,y2 in pixels of an image."""

import math
from collections.abc import Sequence
from pathlib import Path

from detcenter.errors import ConfigError

Box = tuple[float, ...]


def parsed_box(text: str) -> Box:
    """
    Raises:
        ConfigError: if it is no four numbers.
    """
    try:
        box = tuple(float(part) for part in text.strip("[]()").split(","))
    except ValueError:
        box = ()
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise ConfigError(f"BOX {text!r}: four numbers are due, x1,y1,x2,y2 in pixels of the image")
    return box


def check_inside(boxes: Sequence[Box], path: Path, height: int, width: int) -> None:
    """Whether boxes have an area, and lie in the image of this size.

    Raises:
        ConfigError: naming the first that does not.
    """
    for x1, y1, x2, y2 in boxes:
        text = box_in_words((x1, y1, x2, y2))
        if not (x1 < x2 and y1 < y2):
            raise ConfigError(
                f"BOX {text} has no area: x1,y1 is its corner at the top left, x2,y2 that at the "
                "bottom right"
            )
        if min(x1, y1) < 0 or x2 > width or y2 > height:
            raise ConfigError(f"BOX {text} reaches out of {path}, {width}x{height} pixels")


def box_in_words(box: Sequence[float]) -> str:
    """To a tenth of a pixel."""
    return ",".join(f"{x:.1f}".removesuffix(".0") for x in box)
