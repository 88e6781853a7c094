"""`detcenter audit apply`: a data set with single boxes changed, beside the one it is made from."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import ElementTree

from detcenter.data import Annotation, DetectionDataset, Fault
from detcenter.data.images import is_image
from detcenter.data.layouts import yolo
from detcenter.data.layouts.coco_records import Record, read_records
from detcenter.data.layouts.corrected import (
    Correction,
    NotThere,
    correct_coco,
    correct_voc,
    corrected_yolo,
    stays,
)
from detcenter.data.layouts.files import Files, leads_out
from detcenter.data.layouts.reading import read_text
from detcenter.data.layouts.voc_xml import read_objects, read_xml
from detcenter.data.layouts.written import link_image
from detcenter.data.layouts.yolo_labels import read_rows
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.fixed import check_empty
from detcenter.recipe.layouts import Part, read_labelled, resolved

WRITTEN = ("coco", "voc", "digits", "yolo")
"""Layouts that can be corrected; digits are made as VOC's."""

_ANNOTATING = (".xml", ".txt", ".json", ".yaml", ".yml", ".csv", ".names", ".data", ".labels")


class _Image(NamedTuple):
    """An image whose boxes are changed."""

    annotation: Annotation
    part: Part
    corrections: Sequence[Correction]
    category_ids: Mapping[str, int | str]  # of its classes, in COCO's files


def write_corrected(
    data: DataConfig, corrections: Mapping[str, Sequence[Correction]], out: Path
) -> Counter[str]:
    """Write ``out`` as a data set in the same layout, with links to the images.

    A recipe fits it with ``data.root`` changed to ``out``.

    Args:
        corrections: of each image that is changed, by its name below ``data.root``.

    Returns:
        What was changed, and how often.

    Raises:
        ConfigError: a box that is not there; nothing is written then.
    """
    data = resolved(data)
    if data.format not in WRITTEN:
        raise ConfigError(
            f"data.format {data.format}: corrections are written in COCO's, VOC's and YOLO's "
            "layout; `detcenter convert` writes the data set in one of them, to be audited there"
        )
    check_empty("--output", out)
    root = Path(data.root)
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"--output {out} is inside data.root {root}; name a folder outside")
    for key in ("train", "val", "train_images", "val_images"):
        value = getattr(data, key)
        if isinstance(value, str) and leads_out(value):
            raise ConfigError(f"data.{key}: the name {value!r} leads out of data.root {root}")
    images, classes = _images(data, corrections)
    made: Mapping[str, str | ElementTree]
    if data.format == "coco":
        made = _coco(data, images)
    elif data.format == "yolo":
        made = _yolo(data, images)
    else:
        made = _voc(data, images, classes)
    _write(Files(root), made, out)
    every = (change for changes in corrections.values() for change in changes)
    return Counter(what for change in every if (what := _what(change)))


def _images(
    data: DataConfig, corrections: Mapping[str, Sequence[Correction]]
) -> tuple[list[_Image], list[str]]:
    found, root, classes = dict[str, _Image](), Path(data.root), data.classes
    for part in ("train", "val"):
        read = read_labelled(data, part, classes, faults := list[Fault]())
        if faults and data.on_error == "raise":
            raise ConfigError(f"{faults[0]}; `detcenter check` lists all that is at fault")
        classes = read.classes
        dataset = DetectionDataset(read.annotations, classes, categories=read.categories)
        ids = dict(zip(dataset.classes, dataset.category_ids, strict=True))
        for annotation in dataset.annotations:
            path = annotation["path"]
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
            if name in corrections:
                found[name] = _Image(annotation, part, corrections[name], ids)
    unknown = [name for name in corrections if name not in found]
    if unknown:
        raise _other_data(f"there is no image {unknown[0]}", root)
    labels = {x.new_label for image in found.values() for x in image.corrections} - {None}
    strange = sorted(str(label) for label in labels if label not in (classes or []))
    if strange:
        raise _other_data(f"there is no class {strange[0]!r}", root)
    return [*found.values()], classes or []


def _other_data(why: str, root: Path) -> ConfigError:
    return ConfigError(
        f"the decisions do not fit data.root {root}: {why}; they are of other data, or it has "
        "changed since. Nothing was written"
    )


def _coco(data: DataConfig, images: Sequence[_Image]) -> dict[str, str]:
    files, contents = Files(Path(data.root)), dict[str, tuple[Record, list[Record]]]()
    for image in images:
        named = _named(data, image.part)
        name = files.find(named.replace("\\", "/")) or named
        if name not in contents:
            records = read_records(files.root / name, faults=[])
            own = {id(record) for record in records.content["annotations"]}
            if any(id(box) not in own for box in records.boxes):  # ids had to be put right
                records.content["annotations"] = [*records.boxes]
            contents[name] = records.content, records.boxes
        content, boxes = contents[name]
        of_image = [box for box in boxes if box["image_id"] == image.annotation["image_id"]]
        with _there(image, files.root):
            correct_coco(content, of_image, image.annotation, image.category_ids, image.corrections)
    return {name: json.dumps(content) for name, (content, _) in contents.items()}


def _voc(data: DataConfig, images: Sequence[_Image], classes: list[str]) -> dict[str, ElementTree]:
    root, made = Path(data.root), {}
    for image in images:
        file = image.annotation["file"]
        tree = read_xml(file)
        objects = read_objects(tree, file, classes, faults=[])
        with _there(image, root):
            correct_voc(tree, objects, classes, _size(image), image.corrections)
        made[file.relative_to(root).as_posix()] = ElementTree(tree)
    return made


def _yolo(data: DataConfig, images: Sequence[_Image]) -> dict[str, str]:
    root, made = Path(data.root), dict[str, str]()
    files = Files(root)
    known = {
        part: yolo.names_of(files, _named(data, part)) for part in {image.part for image in images}
    }
    for image in images:
        names, keypoints = known[image.part]
        file = image.annotation["file"]
        name = file.relative_to(root).as_posix()
        if name in made:
            raise ConfigError(f"{file} is the label file of several images; part their names first")
        rows, lines = (
            (read_rows(file, []), read_text(file).splitlines()) if file.is_file() else ([], [])
        )
        with _there(image, root):
            made[name] = corrected_yolo(
                rows, lines, names or data.classes, keypoints, _size(image), image.corrections
            )
    return made


def _named(data: DataConfig, part: Part) -> str:
    """What a part is read from; both may be of one file."""
    return str(data.train if part == "train" or isinstance(data.val, float) else data.val)


def _size(image: _Image) -> tuple[int, int]:
    return image.annotation["width"], image.annotation["height"]


@contextmanager
def _there(image: _Image, root: Path) -> Iterator[None]:
    try:
        yield
    except NotThere as error:
        name = image.annotation["path"].relative_to(root).as_posix()
        raise _other_data(f"{name} has {error}", root) from None


def _write(files: Files, made: Mapping[str, str | ElementTree], out: Path) -> None:
    """Links to the images, copies of annotation files, and those that were made instead."""
    for name in files.names:
        if name in made:
            continue
        if is_image(name):
            link_image(files.root / name, out / name)
        elif name.lower().endswith(_ANNOTATING):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files.root / name, out / name)
    for name, content in made.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (out / name).write_text(content, encoding="utf-8")
        else:
            content.write(out / name, encoding="utf-8", xml_declaration=True)


def _what(change: Correction) -> str | None:
    if change.box is None:
        return "boxes added"
    if change.new_box is None:
        return "boxes removed"
    moved, other = not stays(change), change.label != change.new_label
    if moved and other:
        return "boxes moved, with another label"
    return "boxes moved" if moved else "labels changed" if other else None
