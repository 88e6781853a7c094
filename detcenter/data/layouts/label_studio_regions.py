"""The regions that people draw in Label Studio, as boxes with classes."""

from collections import Counter
from reprlib import repr as shortened
from typing import Any

from detcenter.data.layouts.reading import is_number
from detcenter.data.layouts.shapes import around, around_ellipse, around_turned

Record = dict[str, Any]

_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")
_NO_BOXES = {"brush", "brushlabels", "keypoint", "keypointlabels", "vector", "vectorlabels"}


def shape_of(region: Record) -> list[Any]:
    return [region.get(key) for key in ("x", "y", "width", "height", "rotation", "points")]


def labels_of(region: Record) -> Any:
    return next((region[key] for key in _LABELS if region.get(key)), None)


def labelled_box(
    region: Record, width: int, height: int, left_out: Counter[str]
) -> tuple[list[str], list[float]]:
    """The classes of a region, none if it is no box, and the box, xyxy in pixels.

    Raises:
        ValueError: what is wrong with it.
    """
    kind = str(region.get("type")).lower()
    if kind in _NO_BOXES or {"rle", "keypointlabels", "brushlabels"} & region.keys():
        left_out["regions that are no boxes"] += 1
        return [], []
    if not {"x", "points", *_LABELS[:3]} & region.keys():
        return [], []  # of the image as a whole
    given = labels_of(region)
    labels = given if isinstance(given, list) else [given]
    if not all(isinstance(label, str) and label.strip() for label in labels):
        raise ValueError(f"a region has the labels {shortened(given)}, not names of classes")
    if region.get("image_rotation"):
        raise ValueError("drawn on an image that is turned in Label Studio; turn the file instead")
    return [label.strip() for label in labels], _box(region, width / 100, height / 100)


def _box(region: Record, sx: float, sy: float) -> list[float]:
    """`sx` and `sy` are pixels in a percent of the image's width and height."""
    points = region.get("points")
    if isinstance(points, list):
        if len(points) < 3 or not all(map(_is_point, points)):
            raise ValueError(f"a polygon has points {shortened(points)}, not three or more x and y")
        return around([(x * sx, y * sy) for x, y in points])
    angle = region.get("rotation") or 0
    sides = ("radiusX", "radiusY") if "radiusX" in region else ("width", "height")
    numbers = [region.get(key) for key in ("x", "y", *sides)] + [angle]
    if not all(map(is_number, numbers)):
        raise ValueError(f"a region has x, y, sides and rotation {shortened(numbers)}, not numbers")
    x, y, a, b, angle = [float(number) for number in numbers if number is not None]
    x, y, a, b = x * sx, y * sy, a * sx, b * sy
    if "radiusX" in region:
        return around_ellipse((x, y), (a, b), angle)
    return around_turned([x, y, x + a, y + b], angle, (x, y))


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))
