"""The regions that people draw in Label Studio, as boxes with classes."""

from collections import Counter
from reprlib import repr as shortened
from typing import Any, NamedTuple

from detcenter.data.layouts.reading import is_number
from detcenter.data.layouts.shapes import around, around_ellipse, around_turned

Record = dict[str, Any]


class Region(NamedTuple):
    """What is drawn once."""

    said: Record  # its shape and its labels
    results: list[Record]  # of the file, that say this, and its attributes


LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")
_OF_RESULTS = ("original_width", "original_height", "image_rotation", "type")
_NO_BOXES = {"brush", "brushlabels", "keypoint", "keypointlabels", "vector", "vectorlabels"}


def joined(results: list[Any]) -> list[Region]:
    """One a region: its shape and its labels may be results of their own, of one id."""
    by_id: dict[str, Region] = {}
    for number, result in enumerate(results):
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            continue  # a relation between regions
        more = {key: result[key] for key in _OF_RESULTS if result.get(key) is not None}
        key = repr(result.get("id", number))
        said, others = by_id.get(key, Region({}, []))
        by_id[key] = Region({**more, **value, **said}, [*others, result])
    return [*by_id.values()]


def regions_of_min(record: Record) -> list[Region]:
    """Likewise in JSON-MIN, where attributes of a region are items of its shape without label."""
    lists = [value for value in record.values() if isinstance(value, list)]
    items = [item for items in lists for item in items if isinstance(item, dict)]
    regions = [Region(item, [item]) for item in items if labels_of(item)]
    others = []
    for item in items:
        if labels_of(item):
            continue
        shape = _shape_of(item)
        own = next((region for region in regions if _shape_of(region.said) == shape), None)
        if own is None:
            others.append(Region(item, [item]))
        else:
            own.results.append(item)
    return regions + others


def _shape_of(region: Record) -> list[Any]:
    return [region.get(key) for key in ("x", "y", "width", "height", "rotation", "points")]


def labels_of(region: Record) -> Any:
    return next((region[key] for key in LABELS if region.get(key)), None)


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
    if not {"x", "points", *LABELS[:3]} & region.keys():
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
