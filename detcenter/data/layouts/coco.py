"""Data sets in COCO's layout: a folder of images and one JSON file."""

import json
import os
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NamedTuple

import numpy as np

from detcenter.data.dataset import (
    Annotation,
    BoxTransform,
    DetectionDataset,
    keep_annotated_size,
    likely_size,
    true_size,
)
from detcenter.data.errors import DataError, Fault, raise_or_add
from detcenter.data.images import MAX_PIXELS
from detcenter.data.layouts.paths import path_below

Record = dict[str, Any]


class COCODataset(DetectionDataset):
    """A COCO data set, or any in its layout.

    Args:
        images: the folder that the file names of the JSON are relative to. None: only the
            annotations are of use, as they stand in the file, and no image need be there.
        annotations: the JSON file, with "images", "annotations" and "categories".
        faults: a list that takes what is wrong with single images and boxes, which are left out;
            without one, all of it is raised.

    Category ids may be any integers, 0 and gaps included: label k is the category
    `category_ids[k - 1]`. Images without annotations stay, as negatives. `image_id` is the file's
    own, an integer or text. Categories that share a name have their id added to it. The rest is
    as in `DetectionDataset`.

    Raises:
        DataError: a file that is not COCO's; without `faults`, missing images and wrong entries.
    """

    def __init__(
        self,
        images: str | Path | None,
        annotations: str | Path,
        transform: BoxTransform | None = None,
        faults: list[Fault] | None = None,
    ) -> None:
        file, found = Path(annotations), list[Fault]()
        records = read_records(file, found)
        category_ids = [category["id"] for category in records.categories]
        labels = {category_id: k for k, category_id in enumerate(category_ids, start=1)}
        parsed = []
        for image_id, image in records.images.items():
            try:
                parsed.append(_annotation(images, image, records.boxes[image_id], labels, file))
            except DataError as error:
                found += error.args
        raise_or_add(found, faults)
        names = _names(records.categories)
        super().__init__(parsed, names, transform, as_annotated=images is None)
        self.category_ids = category_ids


class Records(NamedTuple):
    """The entries of a COCO file that can be used, as they are in it."""

    content: Record  # the whole file
    categories: list[Record]  # by id
    images: dict[int | str, Record]
    boxes: dict[int | str, list[Record]]  # of every image, by its id


def read_records(file: Path, faults: list[Fault]) -> Records:
    """Read a COCO file; what is wrong with single entries goes to `faults`.

    Raises:
        DataError: it is not a COCO file, or its categories are not clear.
    """
    content = _read_json(file)
    categories = _categories(content["categories"], file)
    images = _images(content["images"], file, faults)
    boxes = _boxes_by_image(content["annotations"], images, categories, file, faults)
    clear = {image_id: image for image_id, image in images.items() if image is not None}
    return Records(content, [categories[key] for key in sorted(categories)], clear, boxes)


def image_path(folder: Path, name: str, file: Path) -> Path:
    """The image that `file` calls `name`.

    Raises:
        DataError: it is not there, or not below `folder`.
    """
    path = path_below(folder, name, file)
    if not os.path.isfile(path):
        raise DataError(Fault(path, f"image file not found, named by {file}"))
    return path


def _read_json(file: Path) -> Record:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(Fault(file, "annotation file not found")) from None
    except (OSError, ValueError, RecursionError) as error:
        what = f"not readable as JSON ({' '.join(str(error).split())})"
        raise DataError(Fault(file, what)) from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(Fault(file, f"no list '{key}'; is this a COCO detection file?"))
    return content


def _categories(records: list[Any], file: Path) -> dict[int, Record]:
    """By id. One that is not clear would shift the labels of others: no case for leaving out."""
    found: dict[int, Record] = {}
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


def _names(categories: list[Record]) -> list[str]:
    """Those that several have, as in exports with a category above the others, with their id."""
    names = [str(category["name"]) for category in categories]
    return [
        f"{name} ({category['id']})" if names.count(name) > 1 else name
        for name, category in zip(names, categories, strict=True)
    ]


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
        if isinstance(record, dict) and type(record.get("id")) in _IDS["images"]:
            found[record["id"]] = image
    return found


def _boxes_by_image(
    records: list[Any],
    images: dict[int | str, Record | None],
    categories: dict[int, Record],
    file: Path,
    faults: list[Fault],
) -> dict[int | str, list[Record]]:
    found: dict[int | str, list[Record]] = {image_id: [] for image_id in images}
    seen: set[tuple[Any, ...]] = set()
    for record in records:
        wrong = _wrong_box(record, images, categories)
        if wrong is None and type(record.get("id")) is int:
            # Only a copy is wrong: nothing here depends on the ids of boxes.
            key = record["id"], record["image_id"], record["category_id"], *record["bbox"]
            if key in seen:
                wrong = f"annotation {record['id']} occurs twice"
            seen.add(key)
        if wrong is None:
            found[record["image_id"]].append(record)
        else:
            faults.append(Fault(file, wrong))
    return found


def _wrong_entry(record: Any, kind: str, key: str) -> str | None:
    """Why it is not an object with an integer id and `key`."""
    if not isinstance(record, dict):
        return f"an entry of '{kind}' is not an object but {shortened(record)}"
    for needed in ("id", key):
        if needed not in record:
            return f"{kind} with id {shortened(record.get('id'))} has no '{needed}'"
    if type(record["id"]) not in _IDS[kind]:
        kinds = " or text" if str in _IDS[kind] else ""
        return f"{kind} id {shortened(record['id'])} is not an integer{kinds}"
    return None


def _wrong_image(record: Any) -> str | None:
    wrong = _wrong_entry(record, "images", "file_name")
    if wrong is None and (not isinstance(record["file_name"], str) or not record["file_name"]):
        return f"images with id {record['id']} has file_name {shortened(record['file_name'])}"
    return wrong


def _wrong_box(
    record: Any, images: dict[int | str, Record | None], categories: dict[int, Record]
) -> str | None:
    if not isinstance(record, dict):
        return f"an entry of 'annotations' is not an object but {shortened(record)}"
    for key in ("image_id", "category_id", "bbox"):
        if key not in record:
            return f"annotations with id {shortened(record.get('id'))} has no '{key}'"
    references = ("image_id", "images", images), ("category_id", "categories", categories)
    for key, kind, known in references:
        value = record[key]
        if type(value) not in _IDS[kind] or value not in known:
            what = f"has unknown {key} {shortened(value)}"
            return f"annotation {shortened(record.get('id'))} {what}"
    box = record["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        what = f"has bbox {shortened(box)}, not four numbers"
        return f"annotation {shortened(record.get('id'))} {what}"
    if _flag(record) not in _FLAGS:
        what = f"has iscrowd {shortened(record['iscrowd'])}, neither 0 nor 1"
        return f"annotation {shortened(record.get('id'))} {what}"
    return None


# Some exports name images by text.
_IDS: dict[str, tuple[type, ...]] = {"images": (int, str), "categories": (int,)}
# What exporters write for iscrowd.
_FLAGS = {"0": False, "false": False, "none": False, "": False, "1": True, "true": True}


def flag_of(record: Record) -> bool:
    """Whether a box is a crowd."""
    return _FLAGS[_flag(record)]


def _flag(record: Record) -> str:
    """What a box's `iscrowd` says, as text."""
    value = record.get("iscrowd")
    return str(int(value) if value in (0.0, 1.0) else value).strip().lower()


def _is_number(value: Any) -> bool:
    # JSON's integers have no bound, numpy's floats do.
    return type(value) is float or (type(value) is int and -1e30 < value < 1e30)


def _annotation(
    folder: str | Path | None,
    image: Record,
    records: list[Record],
    labels: dict[int, int],
    file: Path,
) -> Annotation:
    boxes = boxes_of(records)
    width, height = annotated = _size(image, "width"), _size(image, "height")
    if folder is None:
        path = Path(image["file_name"])
        width, height = likely_size(width, height, boxes)
    else:
        path = image_path(Path(folder), image["file_name"], file)
        width, height = true_size(path, width, height, boxes)
    annotation = Annotation(
        image_id=image["id"],
        path=path,
        width=width,
        height=height,
        boxes=boxes,
        labels=np.array([labels[record["category_id"]] for record in records], dtype=np.int64),
        iscrowd=np.array([flag_of(record) for record in records], dtype=bool),
        difficult=np.zeros(len(records), dtype=bool),
        area=_areas(records),
    )
    keep_annotated_size(annotation, *annotated)
    if folder is None:
        annotation["bbox"] = np.array([r["bbox"] for r in records], np.float64).reshape(-1, 4)
    return annotation


def boxes_of(records: list[Record]) -> np.ndarray:
    """float64 [M, 4], xyxy pixels; inf or nan where numbers are too large or not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = np.array([record["bbox"] for record in records], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # xywh to xyxy
    return boxes


def _areas(records: list[Record]) -> np.ndarray:
    """COCO's area (of the mask, where there is one), or the box's where none is given, or 0."""
    areas = []
    for record in records:
        area: Any = record.get("area")
        if not _is_number(area) or not 0 < area < 1e30:
            area = record["bbox"][2] * record["bbox"][3]
        areas.append(area)
    with np.errstate(over="ignore"):  # of boxes that are dropped
        return np.array(areas, dtype=np.float64)


def _size(image: Record, key: str) -> int:
    """The annotated size in pixels, 0 where it is missing or nonsense."""
    value: Any = image.get(key)
    return int(value) if _is_number(value) and 0 < value <= MAX_PIXELS else 0
