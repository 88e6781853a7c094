"""Annotation files with single boxes changed; everything else in them stays as it is."""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from detcenter.data.dataset import Annotation, clean_boxes
from detcenter.data.layouts.coco_records import Record, boxes_of, sides_of
from detcenter.data.layouts.voc_xml import Object, boxes_in
from detcenter.data.layouts.yolo_labels import Row, named_box

_CLOSE = 0.01  # pixels by which the corners of a box may differ from those that were read


class Correction(NamedTuple):
    """What becomes of a box, or of one that is not there yet."""

    box: Sequence[float] | None  # as annotated, xyxy in pixels inside the image; None: to be added
    label: str | None
    new_box: Sequence[float] | None  # None: it is removed
    new_label: str | None


class NotThere(ValueError):
    """No box is where a correction says."""


def positions(
    boxes: np.ndarray,
    names: Sequence[str],
    size: tuple[int, int],
    corrections: Sequence[Correction],
) -> list[int | None]:
    """Which of the boxes [M, 4] of an image each correction means; None where it adds one.

    Boxes are told by their corners inside the image and by their class. Of boxes that are there
    several times each correction takes another.

    Raises:
        NotThere: naming the box that is missing.
    """
    inside, _ = clean_boxes(boxes, *size)
    left, found = set(range(len(names))), list[int | None]()
    for correction in corrections:
        if correction.box is None:
            found.append(None)
            continue
        close = np.abs(inside - np.asarray(correction.box)).max(axis=1, initial=0) <= _CLOSE
        mine = [n for n in left if close[n] and names[n] == correction.label]
        if not mine:
            corners = ", ".join(f"{x:g}" for x in correction.box)
            raise NotThere(f"no box [{corners}] of class {correction.label!r}")
        found.append(min(mine))
        left.remove(min(mine))
    return found


def correct_coco(
    content: Record,
    records: Sequence[Record],
    annotation: Annotation,
    categories: Mapping[str, int | str],
    corrections: Sequence[Correction],
) -> None:
    """Change the boxes of one image in the content of a COCO file, in place.

    A box that is moved loses its polygon, and has its own area.

    Args:
        records: of the image's boxes, which are entries of the content.
        categories: ids of the classes.
    """
    names = {number: name for name, number in categories.items()}
    boxes = boxes_of(sides_of([*records]))
    of_records = [names.get(record["category_id"], "") for record in records]
    size = annotation["width"], annotation["height"]
    for at, change in zip(
        positions(boxes, of_records, size, corrections), corrections, strict=True
    ):
        if change.new_box is None or change.new_label is None:
            assert at is not None
            content["annotations"] = [r for r in content["annotations"] if r is not records[at]]
            continue
        if at is None:
            ids = [r["id"] for r in content["annotations"] if type(r.get("id")) is int]
            record: Record = {"id": max(ids, default=0) + 1, "image_id": annotation["image_id"]}
            record |= {"iscrowd": 0}
            content["annotations"].append(record)
        else:
            record = records[at]
        record["category_id"] = categories[change.new_label]
        if at is None or not stays(change):
            x1, y1, x2, y2 = map(float, change.new_box)
            sides = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            record |= sides | {"segmentation": []}
            record.pop("keypoints", None)
            record.pop("num_keypoints", None)


def correct_voc(
    tree: Element,
    objects: Sequence[Object],
    classes: Sequence[str],
    size: tuple[int, int],
    corrections: Sequence[Correction],
) -> None:
    """Change the boxes in a VOC annotation, in place; new corners are whole pixels, from 1."""
    names = [classes[thing.label - 1] for thing in objects]
    parents = {child: parent for parent in tree.iter() for child in parent}
    found = positions(boxes_in(objects), names, size, corrections)
    for at, change in zip(found, corrections, strict=True):
        if at is None:
            _append(tree, change)
            continue
        thing = objects[at]
        siblings = thing.element.findall("bndbox")
        if change.new_box is None or change.new_label is None:
            thing.element.remove(thing.bounds)
            if len(siblings) == 1:
                parents[thing.element].remove(thing.element)
            continue
        element, bounds = thing.element, thing.bounds
        if len(siblings) > 1:  # the others keep their class
            element = copy.deepcopy(element)
            bounds = element.findall("bndbox")[siblings.index(bounds)]
            for other in element.findall("bndbox"):
                if other is not bounds:
                    element.remove(other)
            thing.element.remove(thing.bounds)
            parents[thing.element].append(element)
        _text(element, "name", change.new_label)
        if not stays(change):
            _write_corners(bounds, change)


def corrected_yolo(
    rows: Sequence[Row],
    lines: Sequence[str],
    names: list[str] | None,
    keypoints: bool,
    size: tuple[int, int],
    corrections: Sequence[Correction],
) -> str:
    """The text of a label file with its boxes changed.

    A polygon that is moved becomes that of its box, and a new box one where others are polygons:
    readers take all lines of a file for the same. Key points stay as they are, and are not seen
    (0 0 0) of a new box.

    Args:
        rows: its boxes, with the numbers of their ``lines`` from 1.
        names: of the classes by their numbers; None: their names are the numbers.
        keypoints: whether lines hold key points.
    """
    width, height = size
    said = [named_box(row, names, keypoints) for row in rows]
    scale = np.array([width, height] * 2, np.float64)
    boxes = np.array([box for _, box in said], np.float64).reshape(-1, 4) * scale
    found = positions(boxes, [name for name, _ in said], size, corrections)
    text: list[str | None] = [*lines]
    for at, change in zip(found, corrections, strict=True):
        if change.new_box is None or change.new_label is None:
            assert at is not None
            text[rows[at].number - 1] = None
            continue
        number = int(change.new_label) if names is None else names.index(change.new_label)
        corners = (np.asarray(change.new_box) / scale).tolist()
        old = None if at is None else rows[at]
        line = " ".join(f"{x:.9g}" for x in [number, *_as_others(corners, rows, old, keypoints)])
        if at is None:
            text.append(line)
        elif stays(change):
            _, rest = lines[rows[at].number - 1].split(None, 1)
            text[rows[at].number - 1] = f"{number} {rest}"
        else:
            text[rows[at].number - 1] = line
    return "".join(f"{line}\n" for line in text if line is not None)


def _as_others(
    corners: Sequence[float], rows: Sequence[Row], old: Row | None, keypoints: bool
) -> list[float]:
    """The numbers of a line after its class: a box's, or a polygon's where others are polygons."""
    x1, y1, x2, y2 = corners
    box = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    longest = max((len(row.numbers) for row in rows), default=4)
    if keypoints:
        return [*box, *(old.numbers[4:] if old else [0.0] * (longest - 4))]
    return [x1, y1, x2, y1, x2, y2, x1, y2] if longest > 5 else box


def stays(change: Correction) -> bool:
    """Whether the box stays where it is."""
    assert change.new_box is not None
    return change.box is not None and bool(np.allclose(change.box, change.new_box, atol=_CLOSE))


def _append(tree: Element, change: Correction) -> None:
    assert change.new_label is not None
    element = SubElement(tree, "object")
    SubElement(element, "name").text = change.new_label
    SubElement(element, "difficult").text = "0"
    bounds = SubElement(element, "bndbox")
    _write_corners(bounds, change)


def _write_corners(bounds: Element, change: Correction) -> None:
    """The first pixel is 1, the last one belongs to the box, and a single one is read as no box."""
    assert change.new_box is not None
    x1, y1, x2, y2 = np.round(np.asarray(change.new_box, np.float64)).astype(int).tolist()
    corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": max(x2, x1 + 2), "ymax": max(y2, y1 + 2)}
    for key, value in corners.items():
        _text(bounds, key, str(value))


def _text(element: Element, key: str, value: str) -> None:
    place = element.find(key)
    (SubElement(element, key) if place is None else place).text = value
