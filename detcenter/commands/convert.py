"""`detcenter convert`: a data set in another layout, with links to its images or copies of them."""

import dataclasses
import json
import logging
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from detcenter.data import (
    Annotation,
    DataError,
    DetectionDataset,
    image_size,
    write_coco,
    write_voc,
    write_yolo,
)
from detcenter.data.errors import count, printable
from detcenter.data.layouts.written import copy_image, link_image
from detcenter.data.tfrecords import unpack_tfrecords
from detcenter.errors import ConfigError
from detcenter.options import convert as options
from detcenter.progress import bar
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import read_parts
from detcenter.recipe.fixed import check_empty
from detcenter.recipe.layouts import resolved
from detcenter.recipe.parsing import parse

logger = logging.getLogger("detcenter")

_WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}


def main(args: Sequence[str]) -> None:
    """Write data.train and data.val into the new folder OUT."""
    arguments = parse(options.parser(args), args)
    data, out = arguments.data, Path(arguments.out)
    if arguments.tfrecords:
        data.root = arguments.tfrecords
    _check(data, out)
    with _whole(out) as making, ExitStack() as stack:
        if arguments.tfrecords:
            unpacked = stack.enter_context(TemporaryDirectory(dir=making.parent))
            unpack_tfrecords(Path(data.root), Path(unpacked))
            data = dataclasses.replace(data, format="coco", root=unpacked)
        parts = _sound(resolved(data))
        place = copy_image if arguments.copy or arguments.tfrecords else link_image
        boxes = _WRITERS[arguments.to](making, parts, place, bar("writing"))
    counts = [f"{len(parts[p])} images and {boxes[p]} boxes of data.{p}" for p in parts]
    print(f"{', '.join(counts)} in {out}; read them with")
    print(shlex.join(_reading(arguments.to, out, parts["train"].classes)))


def _check(data: DataConfig, out: Path) -> None:
    """Before anything that takes long."""
    if data.format == "lmdb":
        raise ConfigError("data.format is lmdb: convert the data set that was packed")
    check_empty("OUT", out)
    if out.resolve().is_relative_to(Path(data.root).resolve()):
        raise ConfigError(f"OUT {out} is inside data.root {data.root}; name a folder outside")
    if os.path.ismount(out):  # which nothing can be moved to
        raise ConfigError(f"OUT {out} is where a drive is mounted; name a folder below it")


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder to write to, which becomes ``out`` at the end, or nothing if that is not reached."""
    target = out.resolve()
    making = target.with_name(f"{target.name}.partial")
    try:
        making.mkdir(parents=True)
    except FileExistsError:
        what = "is there already, of a conversion that was killed or still runs"
        raise ConfigError(f"{making} {what}; remove it, or name another OUT") from None
    try:
        yield making
        if target.exists():
            target.rmdir()  # empty; not everywhere does renaming replace it
        making.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _sound(data: DataConfig) -> dict[str, DetectionDataset]:
    """Both parts without what is at fault in them, if ``data.on_error`` lets that pass."""
    parts, faults = read_parts(data)
    if faults and data.on_error == "raise":
        raise DataError(*faults)
    if parts["train"].classes != parts["val"].classes:
        raise ConfigError(
            f"data.val {data.val!r} has other classes than data.train {data.train!r}; "
            "they must be the same"
        )
    if faults:
        logger.warning("left out %s; `detcenter check` lists all", count(faults))
    return {name: _as_images_are(part) for name, part in parts.items()}


def _as_images_are(part: DetectionDataset) -> DetectionDataset:
    """With the sizes of the images themselves, and the boxes inside them."""
    sizes = {a["path"]: image_size(a["path"]) for a in bar("measuring images")(part.annotations)}
    wrong = [a["path"] for a in part.annotations if sizes[a["path"]] != (a["width"], a["height"])]
    if wrong:
        logger.warning(
            "images of another size than annotated: %d (%s); written with their own, boxes as "
            "they are in pixels",
            len(wrong),
            printable(", ".join([path.name for path in wrong][:3]) + (", …" if wrong[3:] else "")),
        )
    annotations = [
        cast(Annotation, {**a, "width": sizes[a["path"]][0], "height": sizes[a["path"]][1]})
        for a in part.annotations
    ]
    return DetectionDataset(annotations, part.classes, categories=part.categories)


def _reading(layout: str, out: Path, classes: list[str]) -> list[str]:
    """The options that read what was written; VOC's layout keeps no order of classes."""
    keys: Mapping[str, str] = {
        "coco": {
            "train": "annotations/instances_train.json",
            "val": "annotations/instances_val.json",
        },
        "voc": {
            "train": "train",
            "val": "val",
            "classes": json.dumps(classes, ensure_ascii=False),
        },
        "yolo": {},
    }[layout]
    options = {"format": layout, "root": str(out), **keys}
    return [text for key, value in options.items() for text in (f"--data.{key}", value)]
