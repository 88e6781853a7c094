"""From a recipe to the data sets that it names."""

import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detcenter.data import (
    DataError,
    DetectionDataset,
    Fault,
    LMDBDataset,
    TaughtDataset,
)
from detcenter.data.annotations import joined
from detcenter.data.checks import look_at
from detcenter.data.dataset import learnable
from detcenter.data.errors import count
from detcenter.data.findings import Part as Seen
from detcenter.data.findings import copy_findings, in_words, size_findings, unit_findings
from detcenter.errors import ConfigError
from detcenter.progress import bar
from detcenter.recipe.config import DataConfig, EvaluationConfig
from detcenter.recipe.extras import need
from detcenter.recipe.folds import fold_of_parts
from detcenter.recipe.layouts import Part, read_labelled, resolved
from detcenter.recipe.unknown_classes import (
    missing_classes,
    taught_images,
    unknown_classes,
    with_classes,
    with_unknown,
)

logger = logging.getLogger("detcenter")


def training_set(data: DataConfig) -> DetectionDataset:
    """The training images, not augmented; see :func:`augmentation`.

    All images are decoded once, here and for ``data.val``, so that a broken one does not stop the
    run in hour 3; ``data.on_error`` says what happens then. A sound one that has not changed since
    a run before is not decoded again.
    """
    data = resolved(data)
    dataset = _part(data, "train", data.classes)
    dataset.draft = data.draft
    seen = _learnt(dataset)
    if not seen:
        raise ConfigError(f"data.train {data.train!r} of {data.root!r} has {_nothing(dataset)}")
    unseen = [name for label, name in enumerate(dataset.classes, start=1) if label not in seen]
    if unseen:
        logger.warning("data.train %r has no object of: %s", data.train, ", ".join(unseen))
    return dataset


def validation_set(
    data: DataConfig, classes: list[str], enrolled: Sequence[str] = ()
) -> DetectionDataset:
    """The images of ``data.val``, whose classes must be those of the training set.

    With ``enrolled`` classes behind them, of which there need not be objects.
    """
    return _with_enrolled(data, classes, enrolled) if enrolled else part_of(data, "val", classes)


def part_of(data: DataConfig, part: Part, classes: list[str]) -> DetectionDataset:
    """The images of ``data.train`` or ``data.val``, whose classes must be ``classes``.

    With ``data.folds``, those of the fold that is held out ("val"), or of the others ("train").
    """
    data = resolved(data)
    dataset = _part(data, part, classes)
    dataset.draft = data.draft
    if dataset.classes != classes:
        raise ConfigError(
            f"data.{part} {getattr(data, part)!r} has the classes {_names(dataset.classes)}, "
            f"the training set or checkpoint {_names(classes)}; they must be the same"
        )
    return dataset


def _with_enrolled(
    data: DataConfig, taught: list[str], enrolled: Sequence[str]
) -> DetectionDataset:
    """The images of ``data.val``, of the classes ``taught`` and then ``enrolled``."""
    data = resolved(data)
    classes = [*taught, *enrolled]
    unknown = [str(name) for name in data.unknown or [] if str(name) not in enrolled]
    declared = with_classes(data.classes, [*enrolled, *unknown])
    uncut = dataclasses.replace(data, unknown=None, classes=declared)
    whole = _whole(uncut, "val", declared)
    whole.draft = data.draft
    there = {whole.classes[x - 1] for x in joined(whole.annotations, "labels").tolist()}
    other = sorted(there.difference(classes, unknown))
    if other:
        raise ConfigError(
            f"data.val {data.val!r} has objects of {_names(other)}, which the checkpoint was not "
            "taught and has not enrolled; name them in data.unknown"
        )
    return TaughtDataset(whole, classes, unknown, keep_images=True)


def check_backend(evaluation: EvaluationConfig) -> None:
    """Before anything that takes long."""
    if evaluation.backend == "hotcoco":
        what, otherwise = "evaluation.backend hotcoco", "pycocotools gives the same numbers"
        need("hotcoco", "fast", what, otherwise)


def _part(data: DataConfig, part: Part, classes: list[str] | None) -> DetectionDataset:
    if not data.unknown:
        return _whole(data, part, classes)
    unknown = unknown_classes(data, taught=classes if part == "val" else None)
    # COCO's are read by name, in any order; other layouts' as they are, or as the recipe says.
    by_name = part == "val" and data.format == "coco"
    every = with_classes(classes if by_name else data.classes, unknown)
    uncut = dataclasses.replace(data, unknown=None, classes=with_classes(data.classes, unknown))
    whole = _whole(uncut, part, every)
    if part == "train":
        return taught_images(whole, unknown, data.keep_unknown_images)
    return with_unknown(whole, classes, unknown)


def _whole(data: DataConfig, part: Part, classes: list[str] | None) -> DetectionDataset:
    """With all its classes."""
    if data.folds is None:
        return _sound(data, part, classes)
    if data.fold >= data.folds:
        raise ConfigError(f"data.fold is {data.fold}; data.folds {data.folds} has 0 and on")
    uncut = dataclasses.replace(data, folds=None)
    train = _part(uncut, "train", classes)
    val = part_of(uncut, "val", train.classes)
    return fold_of_parts([train, val], data, part)


def _sound(data: DataConfig, part: Part, classes: list[str] | None) -> DetectionDataset:
    """A part without what is at fault in it, if ``data.on_error`` lets that pass."""
    dataset, seen, faults = read_part(data, part, classes)
    wrong_units = _unit_faults(data, seen)  # a matter of all boxes: there is nothing to leave out
    if wrong_units or (faults and data.on_error == "raise"):
        faults = wrong_units + faults
        if part == "train":  # all at once, not those of data.val when these are put right
            with contextlib.suppress(DataError, ConfigError):
                _, seen_too, others = read_part(data, "val", classes)
                faults += _unit_faults(data, seen_too) + others
        raise DataError(*dict.fromkeys(faults))
    if len(dataset) == 0:
        why = "all its images are at fault" if faults else "it names no images"
        raise ConfigError(f"{getattr(data, part)!r} of data.root {data.root!r} is empty: {why}")
    if faults:
        first = "; ".join(str(fault) for fault in faults[:3]) + ("; …" if len(faults) > 3 else "")
        logger.warning(
            "data.%s: left out %s (%s), images left: %d; `detcenter check` lists all",
            *(part, count(faults), first, len(dataset)),
        )
    for finding in filter(None, size_findings(seen)):
        logger.warning("data.%s: %s", part, in_words(finding))
    dataset.size_reported = bool(seen.looks)
    return dataset


def warn_of_copies(data: DataConfig, train: DetectionDataset, val: DetectionDataset) -> None:
    """Say if images of ``data.train`` are in ``data.val`` too, byte by byte: AP is too high then.

    Of a packed data set this was said when it was packed.
    """
    if data.format == "lmdb":
        return
    both = {"train": train, "val": val}
    looks = look_at(a["path"] for dataset in both.values() for a in dataset.annotations)
    parts = [Seen(name, of.annotations, of.classes, looks) for name, of in both.items()]
    for finding in copy_findings(parts):
        if finding.severity == "warning":
            logger.warning("data.%s: %s; AP is too high", finding.parts[-1], in_words(finding))


class ReadPart(NamedTuple):
    """A part of a data set as it is used, and as it is."""

    dataset: DetectionDataset  # of the sound images
    seen: Seen  # the same images with all their boxes, as the files have them
    faults: list[Fault]  # what is wrong with the others


def read_part(
    data: DataConfig,
    part: Part,
    classes: list[str] | None,
    gray: bool = False,
    afresh: bool = False,
) -> ReadPart:
    """``data.train`` or ``data.val``, without what is at fault.

    Args:
        gray, afresh: whether the looks at the images hold small pictures, and whether all images
            are decoded, though they are known from a run before; see `look_at`.

    Raises:
        ConfigError, DataError: if it cannot be read at all.
    """
    data = resolved(data)
    if data.format == "lmdb" and data.classes is not None:
        raise ConfigError("data.classes: a packed data set has the classes that it was packed with")
    faults: list[Fault] = []
    if data.format == "lmdb":  # its images were decoded when they were packed
        name = str(getattr(data, part))
        packed = LMDBDataset(Path(data.root), name, keep_difficult=data.keep_difficult)
        return ReadPart(packed, Seen(part, packed.annotations, packed.classes, {}), faults)
    read = read_labelled(data, part, classes, faults)
    paths = (annotation["path"] for annotation in read.annotations)
    looks = look_at(paths, bar("checking images"), gray=gray, afresh=afresh)
    broken = {path: look.fault for path, look in looks.items() if look.fault}
    sound = [a for a in read.annotations if a["path"] not in broken]
    dataset = DetectionDataset(
        sound,
        read.classes,
        keep_difficult=data.keep_difficult,
        categories=read.categories,
    )
    seen = Seen(part, sound, read.classes, looks)
    return ReadPart(dataset, seen, [*dict.fromkeys([*faults, *broken.values()])])


def read_parts(data: DataConfig) -> tuple[dict[Part, DetectionDataset], list[Fault]]:
    """Both parts, and what training on them would stumble over; see `look_through`."""
    parts, _, faults = look_through(data)
    return parts, faults


def look_through(
    data: DataConfig, gray: bool = False, afresh: bool = False
) -> tuple[dict[Part, DetectionDataset], list[Seen], list[Fault]]:
    """Both parts, as they are used and as they are, and what training on them would stumble over.

    Without what `unit_findings` tell of the boxes. For ``gray`` and ``afresh`` see `read_part`.
    """
    data = resolved(data)
    train, train_seen, faults = read_part(data, "train", data.classes, gray, afresh)
    val, val_seen, of_val = read_part(data, "val", data.classes or train.classes, gray, afresh)
    if not _learnt(train):
        faults.append(Fault(_file(data, "train"), _nothing(train)))
    if len(val) == 0:
        faults.append(Fault(_file(data, "val"), "no images to evaluate on"))
    why = missing_classes(train.classes, [*map(str, data.unknown or [])])
    if why is not None:
        faults.append(Fault(_file(data, "train"), why))
    if train.classes != val.classes:
        what = f"other classes than data.train {data.train!r}; they must be the same"
        faults.append(Fault(_file(data, "val"), what))
    parts: dict[Part, DetectionDataset] = {"train": train, "val": val}
    return parts, [train_seen, val_seen], [*dict.fromkeys([*faults, *of_val])]


def _file(data: DataConfig, part: str) -> Path:
    return Path(data.root) / str(getattr(data, part))


def _unit_faults(data: DataConfig, part: Seen) -> list[Fault]:
    file = _file(data, part.name)
    return [Fault(file, in_words(finding)) for finding in unit_findings(part) if finding]


def _learnt(dataset: DetectionDataset) -> set[int]:
    """The labels of boxes to learn from."""
    columns = {key: joined(dataset.annotations, key) for key in ("labels", "iscrowd", "difficult")}
    return set(columns["labels"][learnable(columns, dataset.keep_difficult)].tolist())


def _nothing(dataset: DetectionDataset) -> str:
    """Why there is nothing to learn from."""
    flags = ("iscrowd", "difficult")
    crowds, difficult = (int(joined(dataset.annotations, flag).sum()) for flag in flags)
    if difficult and not dataset.keep_difficult:
        why = f": boxes that are difficult: {difficult}; data.keep_difficult: true is for them"
    else:
        why = f": boxes that are crowds: {crowds}" if crowds else ""
    return f"no objects to learn from{why}"


def _names(classes: list[str]) -> str:
    return ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
