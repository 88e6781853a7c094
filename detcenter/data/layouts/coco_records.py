"""The entries of a COCO file, and what is wrong with them."""

import itertools
import re
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NamedTuple

import numpy as np

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts.reading import is_number, read_json

Record = dict[str, Any]


class Records(NamedTuple):
    """The entries of a COCO file that can be used, as they are in it."""

    content: Record  # the whole file
    categories: list[Record]  # in the order of their ids
    images: dict[int | str, Record]
    boxes: list[Record]  # in the order of the file


def read_records(file: Path, faults: list[Fault], polygons: bool = True) -> Records:
    """Read a COCO file; what is wrong with single entries goes to `faults`.

    Args:
        polygons: whether they are wanted; without them it takes half the time.

    Raises:
        DataError: it is not a COCO file, or its categories are not clear.
    """
    content = _content(file, polygons)
    categories = _categories(content["categories"], file)
    images = _images(content["images"], file, faults)
    boxes = _boxes(content["annotations"], images, categories, file, faults)
    clear = {image_id: image for image_id, image in images.items() if image is not None}
    in_order = sorted(categories, key=lambda key: (isinstance(key, str), key))
    return Records(content, [categories[key] for key in in_order], clear, boxes)


# Its value in a mask's own format, an object, does not match, nor does the same in quotes.
_POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[[-+0-9.eE,\s\[\]]*\]')


def _content(file: Path, polygons: bool) -> Record:
    if file.is_dir():
        raise DataError(Fault(file, "a folder; the annotation file below it is due"))
    content = read_json(file) if polygons else read_json(file, _POLYGONS, b'"segmentation":[]')
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(Fault(file, f"no list '{key}'; is this a COCO detection file?"))
    return content


def _categories(records: list[Any], file: Path) -> dict[int | str, Record]:
    """By id. One that is not clear would shift the labels of others: no case for leaving out."""
    found: dict[int | str, Record] = {}
    for record in records:
        wrong = _wrong_entry(record, "categories", "name")
        if wrong is None and record["id"] in found:
            wrong = f"categories id {record['id']} occurs twice"
        if wrong is not None:
            raise DataError(Fault(file, wrong))
        found[record["id"]] = record
    if not found:
        raise DataError(Fault(file, "no categories: nothing to detect"))
    return found


def _images(records: list[Any], file: Path, faults: list[Fault]) -> dict[int | str, Record | None]:
    """By id; None where it is not clear which image that is, so that its boxes are of no use."""
    found: dict[int | str, Record | None] = {}
    for record in records:
        wrong, image = _wrong_image(record), record
        if wrong is None and record["id"] in found:
            wrong = f"images id {record['id']} occurs twice"
            first = found[record["id"]]
            image = first if first and first["file_name"] == record["file_name"] else None
        elif wrong is not None:
            image = None
        if wrong is not None:
            faults.append(Fault(file, wrong))
        if isinstance(record, dict) and type(record.get("id")) in _IDS:
            found[record["id"]] = image
    return found


def _boxes(
    records: list[Any],
    images: dict[int | str, Record | None],
    categories: dict[int | str, Record],
    file: Path,
    faults: list[Fault],
) -> list[Record]:
    """Those that can be used."""
    if _all_plain(records, images, categories):
        return records
    found: list[Record] = []
    seen: set[tuple[Any, ...]] = set()
    for entry in records:
        record = _with_known_ids(entry, images, categories)
        wrong = _wrong_box(record, images, categories)
        if wrong is None and type(record.get("id")) is int:
            # Only a copy is wrong: nothing here depends on the ids of boxes.
            key = record["id"], record["image_id"], record["category_id"], *record["bbox"]
            if key in seen:
                wrong = f"annotation {record['id']} occurs twice"
            seen.add(key)
        if wrong is None:
            found.append(record)
        else:
            faults.append(Fault(file, wrong))
    return found


def _all_plain(
    records: list[Any], images: dict[int | str, Any], categories: dict[int | str, Any]
) -> bool:
    """Whether all boxes are as in COCO's own files: a few looks at all of them are enough then.

    False says nothing; each has to be looked at by itself.
    """
    try:
        for key, known in (("image_id", images), ("category_id", categories)):
            ids = [record[key] for record in records]
            if not set(map(type, ids)) <= {*_IDS} or not set(ids) <= known.keys():
                return False
        boxes = [record["bbox"] for record in records]
        numbers = [record.get("id") for record in records]
        flags = {record.get("iscrowd") for record in records}
    except (KeyError, TypeError, AttributeError):  # an entry is no object, or has no such key
        return False
    if not set(map(type, boxes)) <= {list} or not set(map(len, boxes)) <= {4}:
        return False
    sides = [*itertools.chain.from_iterable(boxes)]
    kinds = set(map(type, sides))
    if not kinds <= {int, float} or (int in kinds and not all(map(is_number, sides))):
        return False
    numbered = [number for number in numbers if type(number) is int]
    return flags <= {0, 1, None} and len(set(numbered)) == len(numbered)


def _with_known_ids(
    record: Any, images: dict[int | str, Any], categories: dict[int | str, Any]
) -> Any:
    """An id that is text where the entry that it names has a number, or the other way about."""
    if not isinstance(record, dict):
        return record
    for key, known in (("image_id", images), ("category_id", categories)):
        value = record.get(key)
        if type(value) in _IDS and value not in known:
            text = str(value).strip()
            other = int(text) if isinstance(value, str) and text.isdecimal() else text
            if other in known:
                record = record | {key: other}
    return record


def _wrong_entry(record: Any, kind: str, key: str) -> str | None:
    """Why it is not an object with an integer id and `key`."""
    if not isinstance(record, dict):
        return f"an entry of '{kind}' is not an object but {shortened(record)}"
    for needed in ("id", key):
        if needed not in record:
            return f"{kind} with id {shortened(record.get('id'))} has no '{needed}'"
    if type(record["id"]) not in _IDS:
        return f"{kind} id {shortened(record['id'])} is not an integer or text"
    return None


def _wrong_image(record: Any) -> str | None:
    wrong = _wrong_entry(record, "images", "file_name")
    if wrong is None and (not isinstance(record["file_name"], str) or not record["file_name"]):
        return f"images with id {record['id']} has file_name {shortened(record['file_name'])}"
    return wrong


def _wrong_box(
    record: Any, images: dict[int | str, Record | None], categories: dict[int | str, Record]
) -> str | None:
    if not isinstance(record, dict):
        return f"an entry of 'annotations' is not an object but {shortened(record)}"
    for key in ("image_id", "category_id", "bbox"):
        if key not in record:
            return f"annotations with id {shortened(record.get('id'))} has no '{key}'"
    for key, known in (("image_id", images), ("category_id", categories)):
        value = record[key]
        if type(value) not in _IDS or value not in known:
            what = f"has unknown {key} {shortened(value)}"
            return f"annotation {shortened(record.get('id'))} {what}"
    box = record["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        what = f"has bbox {shortened(box)}, not four numbers"
        return f"annotation {shortened(record.get('id'))} {what}"
    if _flag(record) not in _FLAGS:
        what = f"has iscrowd {shortened(record['iscrowd'])}, neither 0 nor 1"
        return f"annotation {shortened(record.get('id'))} {what}"
    return None


_IDS = (int, str)  # some exports name images by text
# What exporters write for iscrowd.
_FLAGS = {"0": False, "false": False, "none": False, "": False, "1": True, "true": True}


def flag_of(record: Record) -> bool:
    """Whether a box is a crowd."""
    return _FLAGS[_flag(record)]


def _flag(record: Record) -> str:
    """What a box's `iscrowd` says, as text."""
    value = record.get("iscrowd")
    return str(int(value) if value in (0.0, 1.0) else value).strip().lower()


def flags_of(records: list[Record]) -> np.ndarray:
    """bool [M], `flag_of` each."""
    given = [record.get("iscrowd") for record in records]
    known = given if set(given) <= {0, 1, None} else [flag_of(record) for record in records]
    return np.array(known, dtype=bool)


def sides_of(records: list[Record]) -> np.ndarray:
    """float64 [M, 4], x, y, width, height in pixels, as in the file."""
    sides = itertools.chain.from_iterable(record["bbox"] for record in records)
    return np.fromiter(sides, np.float64, 4 * len(records)).reshape(-1, 4)


def boxes_of(sides: np.ndarray) -> np.ndarray:
    """float64 [M, 4], xyxy of `sides_of`; inf or nan where numbers are too large or not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.hstack([sides[:, :2], sides[:, :2] + sides[:, 2:]])


def areas_of(records: list[Record]) -> np.ndarray:
    """COCO's area (of the mask, where there is one), or the box's where none is given, or 0."""
    given: list[Any] = [record.get("area") for record in records]
    areas = np.array([area if is_number(area) else 0 for area in given], dtype=np.float64)
    (none,) = np.nonzero(~((areas > 0) & (areas < 1e30)))
    with np.errstate(over="ignore"):  # of boxes that are dropped
        for n in none.tolist():
            _, _, width, height = records[n]["bbox"]
            areas[n] = width * height
    return areas
