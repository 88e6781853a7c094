"""Data sets in COCO's layout: images, and a JSON file that says what is in them."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

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
from detcenter.data.garbage import no_collections
from detcenter.data.layouts.coco_records import (
    Record,
    Records,
    areas_of,
    boxes_of,
    flags_of,
    read_records,
    sides_of,
)
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled, image_paths
from detcenter.data.layouts.reading import holds, size_of, warn_once
from detcenter.errors import nearest

logger = logging.getLogger("detcenter")


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
            categories=content.categories,
        )


def find_parts(files: Files) -> list[str]:
    """The JSON files that look like COCO's; of COCO's own those of instances."""
    words = b'"images"', b'"annotations"', b'"categories"'
    found = [name for name in files.ending(".json") if holds(files.root / name, *words)]
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
    with no_collections():
        records = read_records(file, faults, polygons=False)
        chosen = _chosen(records, classes, file, all_kinds=files is None)
        labels = {category["id"]: k for k, (_, category) in enumerate(chosen, start=1)}
        path_of = _paths(records, file, files, folders, faults)
        images = [
            (path, image)
            for image in records.images.values()
            if (path := path_of[image["file_name"]]) is not None
        ]
        boxes = _boxes_of_images(images, records.boxes, labels)
        annotations = _annotations(images, boxes, files is not None, faults)
    return Labelled(annotations, [name for name, _ in chosen], [record for _, record in chosen])


def _paths(
    records: Records,
    file: Path,
    files: Files | None,
    folders: Sequence[str] | None,
    faults: list[Fault],
) -> dict[str, Path | None]:
    """Where the images are, by their names; None of those that are not there."""
    names = [*dict.fromkeys(image["file_name"] for image in records.images.values())]
    if files is None:
        return {name: Path(name) for name in names}
    again = len(records.images) - len(names)
    if again:
        warn_once(
            f"{file}: entries of 'images' with a file_name that another has: {again}; the boxes of "
            "one are background to the other"
        )
    if folders is None:
        folders = [folder_of_images(names, file, files)]
    find = partial(files.image, folders=folders, named_by=file)
    return dict(zip(names, image_paths(names, find, file, faults), strict=True))


def folder_of_images(names: Sequence[str], file: Path, files: Files) -> str:
    """The folder below the root that most file names are relative to, or else that of the JSON."""
    near = file.relative_to(files.root).as_posix() if file.is_relative_to(files.root) else ""
    found = files.folder_holding(names[:: max(1, len(names) // 100)], near)
    return found if found is not None else near.rpartition("/")[0]


def _chosen(
    records: Records, classes: list[str] | None, file: Path, all_kinds: bool
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


def _names(categories: list[Record]) -> list[str]:
    """Those that several have, as in exports with a category above the others, with their id."""
    names = [str(category["name"]) for category in categories]
    return [
        f"{name} ({category['id']})" if names.count(name) > 1 else name
        for name, category in zip(names, categories, strict=True)
    ]


def _kinds_without_boxes(records: Records) -> set[int | str]:
    """Ids of categories that others name as their supercategory, and that have no boxes."""
    used = {record["category_id"] for record in records.boxes}
    pairs = [(c["name"], c.get("supercategory")) for c in records.categories]
    kinds = {str(kind) for name, kind in pairs if kind != name}
    found = {
        category["id"]: category["name"]
        for category in records.categories
        if category["id"] not in used and str(category["name"]) in kinds
    }
    if len(found) == len(records.categories):
        return set()
    for name in found.values():
        logger.warning(
            "left out the category %r: it has no boxes, other categories are of it", name
        )
    return set(found)


class _Boxes(NamedTuple):
    """The boxes of all images, one image after the other, N in all."""

    ends: list[int]  # of every image: how many boxes there are with its own
    boxes: np.ndarray  # float64 [N, 4], xyxy pixels
    sides: np.ndarray  # float64 [N, 4], x, y, width, height
    labels: np.ndarray  # int64 [N]
    iscrowd: np.ndarray  # bool [N]
    area: np.ndarray  # float64 [N]
    far: np.ndarray  # float64 [images, 2], the largest x and y, nan if any is


def _boxes_of_images(
    images: Sequence[tuple[Path, Record]], boxes: list[Record], labels: dict[int | str, int]
) -> _Boxes:
    """Boxes of other images and categories are left out."""
    places = {image["id"]: place for place, (_, image) in enumerate(images)}
    place = np.array([places.get(box["image_id"], -1) for box in boxes], dtype=np.int64)
    label = np.array([labels.get(box["category_id"], 0) for box in boxes], dtype=np.int64)
    order = np.argsort(place, kind="stable")
    order = order[(place[order] >= 0) & (label[order] > 0)]
    place, sides = place[order], sides_of(boxes)[order]
    xyxy, far = boxes_of(sides), np.zeros((len(images), 2))
    np.maximum.at(far, place, xyxy[:, 2:])
    return _Boxes(
        np.cumsum(np.bincount(place, minlength=len(images))).tolist(),
        xyxy,
        sides,
        label[order],
        flags_of(boxes)[order],
        areas_of(boxes)[order],
        far,
    )


def _annotations(
    images: Sequence[tuple[Path, Record]], of: _Boxes, with_images: bool, faults: list[Fault]
) -> list[Annotation]:
    """What is wrong with headers of images goes to ``faults``."""
    difficult = np.zeros(len(of.labels), dtype=bool)
    annotations, start = [], 0
    for (path, image), end, far in zip(images, of.ends, of.far.tolist(), strict=True):
        mine, start = slice(start, end), end
        boxes = of.boxes[mine]
        width, height = annotated = size_of(image.get("width")), size_of(image.get("height"))
        if not (min(annotated) > 0 and far[0] <= width + 1 and far[1] <= height + 1):
            try:
                find = partial(true_size, path) if with_images else likely_size
                width, height = find(width, height, boxes)
            except DataError as error:  # of its header
                faults += error.args
                continue
        annotation = Annotation(
            image_id=image["id"],
            path=path,
            width=width,
            height=height,
            boxes=boxes,
            labels=of.labels[mine],
            iscrowd=of.iscrowd[mine],
            difficult=difficult[mine],
            area=of.area[mine],
        )
        keep_annotated_size(annotation, *annotated)
        if not with_images:
            annotation["bbox"] = of.sides[mine]
        annotations.append(annotation)
    return annotations
