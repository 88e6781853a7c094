"""Data sets in COCO's layout: images, and a JSON file that says what is in them."""

import json
import logging
import mmap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NamedTuple

import numpy as np

from detcenter.data.dataset import (
    Annotation,
    BoxTransform,
    DetectionDataset,
    likely_size,
    true_size,
)
from detcenter.data.errors import DataError, Fault, nearest, raise_or_add
from detcenter.data.images import MAX_PIXELS
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled

logger = logging.getLogger("detcenter")

Record = dict[str, Any]


class COCODataset(DetectionDataset):
    """A COCO data set, or any in its layout.

    Args:
        images: the folder that the file names of the JSON are relative to. None: only the
            annotations are of use, as they stand in the file, and no image need be there.
        annotations: the JSON file, with "images", "annotations" and "categories".
        faults: a list that takes what is wrong with single images and boxes, which are left out;
            without one, all of it is raised.
        classes: names of categories, in the order of their labels; boxes of others are passed
            over. None takes all, see `read_file`.

    Category ids may be any integers, 0 and gaps included, or text: label k is the category
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
        classes: list[str] | None = None,
    ) -> None:
        found: list[Fault] = []
        files = None if images is None else Files(Path(images))
        content = read_file(Path(annotations), files, [""], classes, found)
        raise_or_add(found, faults)
        super().__init__(
            content.annotations,
            content.classes,
            transform,
            as_annotated=images is None,
            category_ids=content.category_ids,
        )


def find_parts(files: Files) -> list[str]:
    """The JSON files that look like COCO's; of COCO's own those of instances."""
    found = [name for name in files.ending(".json") if _looks_like_coco(files.root / name)]
    instances = [name for name in found if "instances" in name.lower()]
    return instances or found


def read(
    files: Files,
    part: str,
    classes: list[str] | None,
    faults: list[Fault],
    folder: str | None = None,
) -> Labelled:
    """`read_file` of the JSON file that is called `part` below the root of `files`.

    Args:
        folder: of the images, below that root; None looks where most of them are.
    """
    found = files.find(part.replace("\\", "/"))
    folders = None if folder is None else [folder]
    return read_file(files.root / (found or part), files, folders, classes, faults)


def read_file(
    file: Path,
    files: Files | None,
    folders: Sequence[str] | None,
    classes: list[str] | None,
    faults: list[Fault],
) -> Labelled:
    """The images of a COCO file; what is wrong with single ones and with boxes goes to `faults`.

    Args:
        files: those of the data set; None if the images are of no use.
        folders: that file names are relative to, below the root of `files`; None looks where most
            of them are.
        classes: names of categories to choose. None takes all; of a data set with images not a
            category without boxes that is only the kind of others, as Roboflow adds one.

    Raises:
        DataError: it is not a COCO file, its categories are not clear, or one is not there.
    """
    records = read_records(file, faults)
    chosen = _chosen(records, classes, file, all_kinds=files is None)
    labels = {category["id"]: k for k, (_, category) in enumerate(chosen, start=1)}
    if files is not None and folders is None:
        folders = [folder_of_images(records, file, files)]
    annotations = []
    for image_id, image in records.images.items():
        boxes = [record for record in records.boxes[image_id] if record["category_id"] in labels]
        try:
            path = Path(image["file_name"])
            if files is not None and folders is not None:
                path = files.image(image["file_name"], folders, file)
            annotations.append(_annotation(path, image, boxes, labels, files is not None))
        except DataError as error:
            faults += error.args
    return Labelled(annotations, [name for name, _ in chosen], [*labels])


def folder_of_images(records: "Records", file: Path, files: Files) -> str:
    """The folder below the root that most file names are relative to, or else that of the JSON."""
    near = file.relative_to(files.root).as_posix() if file.is_relative_to(files.root) else ""
    names = [image["file_name"] for image in records.images.values()]
    step = max(1, len(names) // 100)
    found = files.folder_holding(names[::step], near)
    return found if found is not None else near.rpartition("/")[0]


def _chosen(
    records: "Records", classes: list[str] | None, file: Path, all_kinds: bool
) -> list[tuple[str, Record]]:
    """Names and categories, in the order of their labels."""
    by_name = dict(zip(_names(records.categories), records.categories, strict=True))
    if classes is None:
        kinds = set() if all_kinds else _kinds_without_boxes(records)
        return [pair for pair in by_name.items() if pair[1]["id"] not in kinds]
    missing = [name for name in classes if name not in by_name]
    if missing:
        what = f"no category {missing[0]!r}; {nearest(missing[0], [*by_name])}"
        raise DataError(Fault(file, what))
    return [(name, by_name[name]) for name in classes]


def _kinds_without_boxes(records: "Records") -> set[int | str]:
    """Ids of categories that others name as their supercategory, and that have no boxes."""
    used = {record["category_id"] for boxes in records.boxes.values() for record in boxes}
    kinds = Counter(str(c.get("supercategory")) for c in records.categories)
    found = {
        category["id"]: category["name"]
        for category in records.categories
        if category["id"] not in used and kinds[str(category["name"])] > 0
    }
    if len(found) == len(records.categories):
        return set()
    for name in found.values():
        logger.warning(
            "left out the category %r: it has no boxes, other categories are of it", name
        )
    return set(found)


def _looks_like_coco(path: Path) -> bool:
    """Without parsing it: such files are hundreds of megabytes large."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return all(
                text.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"')
            )
    except (OSError, ValueError):  # an empty file
        return False


class Records(NamedTuple):
    """The entries of a COCO file that can be used, as they are in it."""

    content: Record  # the whole file
    categories: list[Record]  # in the order of their ids
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
    in_order = sorted(categories, key=lambda key: (isinstance(key, str), key))
    return Records(content, [categories[key] for key in in_order], clear, boxes)


def _read_json(file: Path) -> Record:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(Fault(file, "annotation file not found")) from None
    except IsADirectoryError:
        raise DataError(Fault(file, "a folder; the annotation file below it is due")) from None
    except (OSError, ValueError, RecursionError) as error:
        what = f"not readable as JSON ({' '.join(str(error).split())})"
        raise DataError(Fault(file, what)) from error
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
        if isinstance(record, dict) and type(record.get("id")) in _IDS:
            found[record["id"]] = image
    return found


def _boxes_by_image(
    records: list[Any],
    images: dict[int | str, Record | None],
    categories: dict[int | str, Record],
    file: Path,
    faults: list[Fault],
) -> dict[int | str, list[Record]]:
    found: dict[int | str, list[Record]] = {image_id: [] for image_id in images}
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
            found[record["image_id"]].append(record)
        else:
            faults.append(Fault(file, wrong))
    return found


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
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        what = f"has bbox {shortened(box)}, not four numbers"
        return f"annotation {shortened(record.get('id'))} {what}"
    if _flag(record) not in _FLAGS:
        what = f"has iscrowd {shortened(record['iscrowd'])}, neither 0 nor 1"
        return f"annotation {shortened(record.get('id'))} {what}"
    return None


_IDS = (int, str)  # some exports name images by text
# What exporters write for iscrowd.
_FLAGS = {"0": False, "false": False, "none": False, "": False, "1": True, "true": True}


def _flag(record: Record) -> str:
    """What a box's `iscrowd` says, as text."""
    value = record.get("iscrowd")
    return str(int(value) if value in (0.0, 1.0) else value).strip().lower()


def _is_number(value: Any) -> bool:
    # JSON's integers have no bound, numpy's floats do.
    return type(value) is float or (type(value) is int and -1e30 < value < 1e30)


def _annotation(
    path: Path,
    image: Record,
    records: list[Record],
    labels: dict[int | str, int],
    with_image: bool,
) -> Annotation:
    boxes = boxes_of(records)
    width, height = _size(image, "width"), _size(image, "height")
    if with_image:
        width, height = true_size(path, width, height, boxes)
    else:
        width, height = likely_size(width, height, boxes)
    annotation = Annotation(
        image_id=image["id"],
        path=path,
        width=width,
        height=height,
        boxes=boxes,
        labels=np.array([labels[record["category_id"]] for record in records], dtype=np.int64),
        iscrowd=np.array([_FLAGS[_flag(record)] for record in records], dtype=bool),
        difficult=np.zeros(len(records), dtype=bool),
        area=_areas(records),
    )
    if not with_image:
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
