"""Annotation files as they would be without their faults; everything else in them stays."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from detcenter.data.dataset import Annotation, DetectionDataset, clean_boxes
from detcenter.data.layouts.coco_records import Record, boxes_of, flag_of, read_records, sides_of
from detcenter.data.layouts.voc_xml import Object, boxes_in, read_objects, read_xml

_CORNERS = ("xmin", "ymin", "xmax", "ymax")

# What is counted beside what is left out for its faults.
CLIPPED = "boxes clipped"
DROPPED = "boxes without area left out"
COPIES = "copies of boxes left out"
FLAGS = "crowd flags written as 0 or 1"
AREAS = "areas of boxes written"


def cleaned_coco(
    file: Path, folder: Path, datasets: Sequence[DetectionDataset], changes: Counter[str]
) -> Record:
    """The content of `file` with the images and boxes of `datasets` alone, boxes clipped.

    Of boxes that are there twice the first is kept; crowd flags are 0 or 1, and an area that is
    none is the box's.

    Args:
        folder: what file names are relative to.
        changes: to which it is added what was changed, by number.
    """
    records = read_records(file, faults=[])
    by_image: dict[int | str, list[Record]] = {image_id: [] for image_id in records.images}
    for record in records.boxes:
        by_image.setdefault(record["image_id"], []).append(record)
    images: list[Record] = []
    boxes: list[Record] = []
    for annotation in (a for dataset in datasets for a in dataset.annotations):
        size = {key: annotation[key] for key in ("width", "height")}
        name = annotation["path"].relative_to(folder).as_posix()
        images.append(records.images[annotation["image_id"]] | size | {"file_name": name})
        boxes += _cleaned_records(by_image[annotation["image_id"]], annotation, changes)
    return records.content | {"images": images, "annotations": _with_own_ids(boxes)}


def _cleaned_records(
    records: list[Record], annotation: Annotation, changes: Counter[str]
) -> list[Record]:
    given = boxes_of(sides_of(records))
    clipped, keep = clean_boxes(given, annotation["width"], annotation["height"])
    changes[DROPPED] += int((~keep).sum())
    cleaned: dict[tuple[Any, ...], Record] = {}
    for index in np.flatnonzero(keep):
        record, (x1, y1, x2, y2) = records[index], clipped[index].tolist()
        key = record["category_id"], flag_of(record), *given[index].tolist()
        if key in cleaned:
            changes[COPIES] += 1
            continue
        if (given[index] != clipped[index]).any():
            record = record | {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            changes[CLIPPED] += 1
        cleaned[key] = _with_numbers(record, changes)
    return list(cleaned.values())


def _with_numbers(record: Record, changes: Counter[str]) -> Record:
    """A record whose crowd flag and area are what other readers expect."""
    fixed: Record = {}
    if "iscrowd" in record and type(record["iscrowd"]) is not int:
        fixed["iscrowd"] = int(flag_of(record))
        changes[FLAGS] += 1
    area: Any = record.get("area")
    if type(area) not in (int, float) or not area > 0:
        fixed["area"] = record["bbox"][2] * record["bbox"][3]
        changes[AREAS] += 1
    return record | fixed


def _with_own_ids(boxes: list[Record]) -> list[Record]:
    """Numbered anew if an id is missing or occurs twice: other readers depend on them."""
    ids: list[Any] = [record.get("id") for record in boxes]
    if all(type(number) is int for number in ids) and len(set(ids)) == len(ids):
        return boxes
    return [record | {"id": number} for number, record in enumerate(boxes, start=1)]


def cleaned_voc(
    file: Path, annotation: Annotation, classes: list[str], changes: Counter[str]
) -> Element | None:
    """The root element of `file` without faulty objects, boxes clipped; None if nothing changes.

    Of objects that are there twice the first is kept.

    Args:
        changes: to which it is added what was changed, by number.
    """
    tree = read_xml(file)
    objects = read_objects(tree, file, classes, faults=[])
    given = boxes_in(objects)
    clipped, keep = clean_boxes(given, annotation["width"], annotation["height"])
    changes[DROPPED] += int((~keep).sum())
    changes[COPIES] += int(keep.sum())
    first: dict[tuple[float, ...], int] = {}
    for index in np.flatnonzero(keep).tolist():
        first.setdefault((objects[index].label, *objects[index].box), index)
    changes[COPIES] -= len(first)
    keep[:] = np.isin(np.arange(len(keep)), [*first.values()])
    kept = [objects[index] for index in np.flatnonzero(keep)]
    changed = _without_others(tree, kept)
    for thing, old, new in zip(kept, given[keep], clipped[keep], strict=True):
        # Inclusive pixels cannot say that a box is a pixel wide; unclipped it is read as such.
        if (new[2:] - new[:2] > 1).all() and (old != new).any():
            changes[CLIPPED] += 1
            for key, value in zip(_CORNERS, (new + [1, 1, 0, 0]).tolist(), strict=True):
                changed |= _write(thing.bounds, key, value)
    for key in ("width", "height"):
        changed |= _write(tree, f"size/{key}", annotation[key])  # type: ignore[literal-required]
    return tree if changed else None


def _without_others(tree: Element, kept: list[Object]) -> bool:
    """Remove the other boxes, and objects that have none left; whether there were any."""
    boxes = {thing.bounds for thing in kept}
    objects = {thing.element for thing in kept}
    others = [
        (parent, child)
        for parent in tree.iter()
        for child in parent
        if (child.tag == "object" and child not in objects)
        or (parent in objects and child.tag == "bndbox" and child not in boxes)
    ]
    for parent, child in others:
        parent.remove(child)
    return bool(others)


def _write(element: Element, key: str, value: float) -> bool:
    """Put a number where another one is; whether there was."""
    place = element.find(key)
    if place is None or (place.text or "").strip() == f"{value:.9g}":
        return False
    place.text = f"{value:.9g}"
    return True
