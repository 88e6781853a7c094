"""Data sets in COCO's layout: a folder of images and one JSON file."""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from detcenter.data.dataset import Annotation, BoxTransform, DetectionDataset, true_size
from detcenter.data.errors import DataError

_Record = dict[str, Any]


class COCODataset(DetectionDataset):
    """A COCO data set, or any in its layout.

    Args:
        images: the folder that the file names of the JSON are relative to.
        annotations: the JSON file, with "images", "annotations" and "categories".

    Category ids may be any integers, 0 and gaps included: label k is the category
    `category_ids[k - 1]`. Images without annotations stay, as negatives. `image_id` is the file's
    own. The rest is as in `DetectionDataset`.

    Raises:
        DataError: a missing or broken file, or an annotation of an unknown image or category.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        transform: BoxTransform | None = None,
    ) -> None:
        file = Path(annotations)
        data = _read_json(file)
        categories = sorted(_by_id(data, "categories", file).items())
        category_ids = [category_id for category_id, _ in categories]
        names = [str(_get(category, "name", "categories", file)) for _, category in categories]
        labels = {category_id: k for k, category_id in enumerate(category_ids, start=1)}
        image_records = _by_id(data, "images", file)
        boxes = _boxes_by_image(data["annotations"], image_records, labels, file)
        parsed = [
            _annotation(Path(images), record, boxes[image_id], labels, file)
            for image_id, record in image_records.items()
        ]
        super().__init__(parsed, names, transform)
        self.category_ids = category_ids


def _read_json(file: Path) -> dict[str, list[_Record]]:
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{file}: annotation file not found") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not readable as JSON ({' '.join(str(error).split())})") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DataError(f"{file}: no list '{key}'; is this a COCO detection file?")
        if not all(isinstance(record, dict) for record in data[key]):
            raise DataError(f"{file}: an entry of '{key}' is not an object")
    return data


def _get(record: _Record, key: str, kind: str, file: Path) -> Any:
    if key not in record:
        raise DataError(f"{file}: {kind} with id {record.get('id')!r} has no '{key}'")
    return record[key]


def _by_id(data: dict[str, list[_Record]], kind: str, file: Path) -> dict[int, _Record]:
    found: dict[int, _Record] = {}
    for record in data[kind]:
        record_id = _get(record, "id", kind, file)
        if not isinstance(record_id, int):
            raise DataError(f"{file}: {kind} id {record_id!r} is not an integer")
        if record_id in found:
            raise DataError(f"{file}: {kind} id {record_id} occurs twice")
        found[record_id] = record
    return found


def _boxes_by_image(
    records: list[_Record], images: dict[int, _Record], labels: dict[int, int], file: Path
) -> dict[int, list[_Record]]:
    found: dict[int, list[_Record]] = defaultdict(list)
    for record in records:
        for key, known in (("image_id", images), ("category_id", labels)):
            value = _get(record, key, "annotations", file)
            if not isinstance(value, int) or value not in known:
                where = f"{file}: annotation {record.get('id')!r}"
                raise DataError(f"{where} has unknown {key} {value!r}")
        _check_box(record, file)
        found[record["image_id"]].append(record)
    return found


def _check_box(record: _Record, file: Path) -> None:
    box = _get(record, "bbox", "annotations", file)
    four = isinstance(box, list) and len(box) == 4
    if not four or not all(isinstance(value, int | float) for value in box):
        message = f"annotation {record.get('id')!r} has bbox {box!r}, not four numbers"
        raise DataError(f"{file}: {message}")


def _annotation(
    folder: Path, image: _Record, records: list[_Record], labels: dict[int, int], file: Path
) -> Annotation:
    path = folder / str(_get(image, "file_name", "images", file))
    if not path.is_file():
        raise DataError(f"{path}: image file not found, named by {file}")
    boxes = np.array([record["bbox"] for record in records], dtype=np.float32).reshape(-1, 4)
    box_areas = boxes[:, 2] * boxes[:, 3]
    areas = [record.get("area") for record in records]
    boxes[:, 2:] += boxes[:, :2]  # xywh to xyxy
    width, height = true_size(path, _size(image, "width"), _size(image, "height"), boxes)
    return Annotation(
        image_id=image["id"],
        path=path,
        width=width,
        height=height,
        boxes=boxes,
        labels=np.array([labels[record["category_id"]] for record in records], dtype=np.int64),
        iscrowd=np.array([bool(record.get("iscrowd")) for record in records], dtype=bool),
        difficult=np.zeros(len(records), dtype=bool),
        area=_areas(areas, box_areas),
    )


def _areas(given: list[Any], of_boxes: np.ndarray) -> np.ndarray:
    """COCO's area (of the mask, where there is one), or the box's where none is given."""
    pairs = zip(given, of_boxes, strict=True)
    areas = [area if isinstance(area, int | float) else own for area, own in pairs]
    return np.array(areas, dtype=np.float32)


def _size(image: _Record, key: str) -> int:
    """The annotated size in pixels, 0 where it is missing."""
    value = image.get(key)
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0
