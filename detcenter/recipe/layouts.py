"""From a recipe to the annotations that it names, as they are in the files."""

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any, Literal

from detcenter.data import DataError, Fault, lmdb_parts, make_digits
from detcenter.data.layouts import coco
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.found import LAYOUTS, find_layout
from detcenter.data.layouts.labelled import Labelled
from detcenter.data.layouts.parts import part_for
from detcenter.data.splitting import held_out
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.groups import check_known, groups_of

logger = logging.getLogger("detcenter")

Part = Literal["train", "val"]
HELD_OUT = 0.2
"""The fraction of the images that is held out for evaluation where there is no part for it."""


def resolved(data: DataConfig) -> DataConfig:
    """``data`` with the layout and the parts that it leaves open found out; says which.

    Raises:
        ConfigError, DataError: there is no data set, or none that can be read.
    """
    if data.format != "auto" and data.train is not None and data.val is not None:
        return data
    _check(data)
    if data.format == "digits":
        return dataclasses.replace(data, train=data.train or "train", val=data.val or "val")
    if data.format == "lmdb":
        return _parts_of_lmdb(data)
    formats: list[str] | None = None if data.format == "auto" else [data.format]
    val = None if isinstance(data.val, float) else data.val
    layout = find_layout(Files(Path(data.root)), formats, data.train, val)
    known: Any = layout.format
    found_out = dataclasses.replace(
        data,
        format=known,
        train=layout.train,
        val=data.val if data.val is not None else (layout.val or HELD_OUT),
    )
    if layout.outside:
        few = ", ".join(layout.outside[:5]) + (", …" if layout.outside[5:] else "")
        logger.warning("%s: annotation files are in no part, and are left out: %s", data.root, few)
    also = f"; it has {', '.join(layout.others)} too: data.format chooses" if layout.others else ""
    said = ", ".join(f"data.{key} {getattr(found_out, key)}" for key in ("format", "train", "val"))
    logger.info("%s: %s%s", data.root, said, also)
    return found_out


def _parts_of_lmdb(data: DataConfig) -> DataConfig:
    names = lmdb_parts(Path(data.root))
    try:
        train, val = data.train or part_for("train", names), data.val or part_for("val", names)
    except ValueError:  # several are as good
        train = val = None
    if train is None or val is None:
        raise ConfigError(f"data.train and data.val: name two of {', '.join(names)}")
    return dataclasses.replace(data, train=train, val=val)


def read_labelled(
    data: DataConfig, part: Part, classes: list[str] | None, faults: list[Fault]
) -> Labelled:
    """The images of ``data.train`` or ``data.val`` with their boxes as they are in the files.

    What is wrong with single images and boxes goes to ``faults``. ``data`` is resolved, and of no
    packed data set.

    Raises:
        ConfigError, DataError: if it cannot be read at all.
    """
    _check(data)
    root = Path(data.root)
    if data.format == "digits":
        try:
            make_digits(root, **dataclasses.asdict(data.digits))
        except ValueError as error:
            raise ConfigError(f"data.digits: {error}") from None
    of_train = part == "train" or isinstance(data.val, float)
    name = str(data.train if of_train else data.val)
    images = data.train_images if of_train else data.val_images
    found = list[Fault]()
    if data.format == "coco":
        labelled = _read_coco(data, name, images, classes, found)
    else:
        layout = LAYOUTS["voc" if data.format == "digits" else data.format]  # made as VOC's
        labelled = layout.read(Files(root), name, classes, found)
    _check_images(data, part, name, images, labelled, found)
    faults += found
    if isinstance(data.val, float):
        return _parted(labelled, data, part)
    return labelled


def _check(data: DataConfig) -> None:
    if data.format not in ("lmdb", "digits") and not Path(data.root).is_dir():
        where = "" if Path(data.root).is_absolute() else f" below {Path.cwd()}"
        raise ConfigError(
            f"data.root {data.root!r} is no folder{where}; set it to where the data set is"
        )
    if isinstance(data.val, float):
        if not 0 < data.val < 1:
            raise ConfigError(
                f"data.val is {data.val:g}; a number is the fraction of data.train that is held "
                "out, between 0 and 1"
            )
        if data.format in ("lmdb", "digits"):
            raise ConfigError(f"data.val is {data.val:g}; data.format {data.format} has its parts")


def _read_coco(
    data: DataConfig, name: str, images: str | None, classes: list[str] | None, found: list[Fault]
) -> Labelled:
    """With ``data.classes``; or those of the training set, if no other category has boxes."""
    declared = _coco_of(data, name, images, data.classes, found)
    if data.classes is not None or classes in (None, declared.classes):
        return declared
    with contextlib.suppress(DataError):  # a category is missing
        as_trained = _coco_of(data, name, images, classes, [])
        if _boxes(as_trained) == _boxes(declared):
            return as_trained
    return declared


def _coco_of(
    data: DataConfig, name: str, images: str | None, classes: list[str] | None, found: list[Fault]
) -> Labelled:
    root = Path(data.root)
    if images is None:
        return coco.read(Files(root), name, classes, found)
    return coco.read_file(root / name, Files(root / images), [""], classes, found)


def _boxes(labelled: Labelled) -> int:
    return sum(len(annotation["labels"]) for annotation in labelled.annotations)


def _check_images(
    data: DataConfig,
    part: Part,
    name: str,
    images: str | None,
    labelled: Labelled,
    faults: list[Fault],
) -> None:
    """One line where all images are missing, which has one cause."""
    missing = [fault.file for fault in faults if _says_missing(fault)]
    if labelled.annotations or not missing or len(missing) < len(faults):
        return
    where = Path(data.root) if images is None else Path(data.root) / images
    what = f"none of the {len(missing)} images that {name} names is in {where}"
    key = "data.root" if images is None else f"data.{part}_images"
    elsewhere = Files(Path(data.root)).folder_holding([path.name for path in missing[:100]], name)
    if images is not None and elsewhere is not None:
        raise ConfigError(f"{what}; they are in {elsewhere or '.'}: set {key} to that")
    raise ConfigError(f"{what}; set {key} to where they are")


def _says_missing(fault: Fault) -> bool:
    return fault.what.startswith("image file not found") or "leads out of" in fault.what


def _parted(labelled: Labelled, data: DataConfig, part: Part) -> Labelled:
    assert isinstance(data.val, float)
    paths = [annotation["path"] for annotation in labelled.annotations]
    if not paths:
        return labelled
    try:
        together = groups_of(data)
        check_known(data, together, paths)
        chosen = held_out(paths, Path(data.root), data.val, data.val_seed, together)
    except ValueError as error:
        raise ConfigError(f"data.val {data.val:g} of data.train {data.train!r}: {error}") from None
    kept = [
        annotation
        for position, annotation in enumerate(labelled.annotations)
        if (position in chosen) == (part == "val")
    ]
    return labelled._replace(annotations=kept)
