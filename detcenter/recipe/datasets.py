"""From a recipe to the data sets that it names."""

import contextlib
import dataclasses
import logging
from pathlib import Path

import numpy as np

from detcenter.data import (
    DataError,
    DetectionDataset,
    Fault,
    LMDBDataset,
    PooledDataset,
    image_faults,
)
from detcenter.data.errors import count
from detcenter.errors import ConfigError
from detcenter.progress import bar
from detcenter.recipe.config import DataConfig, EvaluationConfig
from detcenter.recipe.extras import need
from detcenter.recipe.layouts import Part, read_labelled, resolved

logger = logging.getLogger("detcenter")


def training_set(data: DataConfig) -> DetectionDataset:
    """The training images, not augmented; see :func:`augmentation`.

    All images are decoded once, here and for ``data.val``, so that a broken one does not stop the
    run in hour 3; ``data.on_error`` says what happens then.
    """
    data = resolved(data)
    dataset = _part(data, "train", data.classes)
    seen = {int(label) for annotation in dataset.annotations for label in annotation["labels"]}
    if not seen:
        raise ConfigError(
            f"data.train {data.train!r} of {data.root!r} has no objects to learn from"
        )
    unseen = [name for label, name in enumerate(dataset.classes, start=1) if label not in seen]
    if unseen:
        logger.warning("data.train %r has no object of: %s", data.train, ", ".join(unseen))
    return dataset


def validation_set(data: DataConfig, classes: list[str]) -> DetectionDataset:
    """The images of ``data.val``, whose classes must be those of the training set."""
    return part_of(data, "val", classes)


def part_of(data: DataConfig, part: Part, classes: list[str]) -> DetectionDataset:
    """The images of ``data.train`` or ``data.val``, whose classes must be ``classes``.

    With ``data.folds``, those of the fold that is held out ("val"), or of the others ("train").
    """
    data = resolved(data)
    dataset = _part(data, part, classes)
    if dataset.classes != classes:
        raise ConfigError(
            f"data.{part} {getattr(data, part)!r} has the classes {_names(dataset.classes)}, "
            f"the training set or checkpoint {_names(classes)}; they must be the same"
        )
    return dataset


def check_backend(evaluation: EvaluationConfig) -> None:
    """Before anything that takes long."""
    if evaluation.backend == "hotcoco":
        what, otherwise = "evaluation.backend hotcoco", "pycocotools gives the same numbers"
        need("hotcoco", "fast", what, otherwise)


def _part(data: DataConfig, part: Part, classes: list[str] | None) -> DetectionDataset:
    if data.folds is None:
        return _sound(data, part, classes)
    if data.fold >= data.folds:
        raise ConfigError(f"data.fold is {data.fold}; data.folds {data.folds} has 0 and on")
    uncut = dataclasses.replace(data, folds=None)
    train = _part(uncut, "train", classes)
    val = part_of(uncut, "val", train.classes)
    return _fold_of([train, val], data, part)


def _fold_of(both: list[DetectionDataset], data: DataConfig, part: Part) -> DetectionDataset:
    assert data.folds is not None
    paths = [annotation["path"] for dataset in both for annotation in dataset.annotations]
    if data.folds > len(paths):
        raise ConfigError(f"data.folds is {data.folds}, but there are {len(paths)} images")
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ConfigError(
            f"data.folds: {twice} is in data.train and in data.val; folds need it once"
        )
    # Fixed, so that all variants and seeds of a comparison are evaluated on the same parts.
    order = np.random.default_rng(0).permutation(len(paths))
    parts = np.array_split(order, data.folds)
    held_out = set(parts[data.fold].tolist())
    chosen = [n for n in range(len(paths)) if (n in held_out) == (part == "val")]
    return PooledDataset(both, chosen)


def _sound(data: DataConfig, part: Part, classes: list[str] | None) -> DetectionDataset:
    """A part without what is at fault in it, if ``data.on_error`` lets that pass."""
    dataset, faults = read_part(data, part, classes)
    if faults and data.on_error == "raise":
        if part == "train":  # all at once, not those of data.val when these are put right
            with contextlib.suppress(DataError, ConfigError):
                faults += read_part(data, "val", classes)[1]
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
    return dataset


def read_part(
    data: DataConfig, part: Part, classes: list[str] | None
) -> tuple[DetectionDataset, list[Fault]]:
    """The sound images of ``data.train`` or ``data.val``, and what is wrong with the others.

    Raises:
        ConfigError, DataError: if it cannot be read at all.
    """
    data = resolved(data)
    if data.format == "lmdb" and data.classes is not None:
        raise ConfigError("data.classes: a packed data set has the classes that it was packed with")
    if data.format == "coco":  # which declares its classes, and declares them again
        classes = data.classes
    faults: list[Fault] = []
    dataset = _dataset(data, part, classes, faults)
    if data.format == "lmdb":  # its images were decoded when they were packed
        return dataset, faults
    broken = image_faults((a["path"] for a in dataset.annotations), bar("checking images"))
    files = {fault.file for fault in broken}
    dataset.annotations = [a for a in dataset.annotations if a["path"] not in files]
    return dataset, [*dict.fromkeys([*faults, *broken])]


def read_parts(data: DataConfig) -> tuple[dict[Part, DetectionDataset], list[Fault]]:
    """Both parts, and all that training on them would stumble over."""
    data = resolved(data)
    train, faults = read_part(data, "train", data.classes)
    val, of_val = read_part(data, "val", data.classes or train.classes)
    if not any(len(annotation["labels"]) for annotation in train.annotations):
        faults.append(Fault(Path(data.root) / str(data.train), "no objects to learn from"))
    if len(val) == 0:
        faults.append(Fault(Path(data.root) / str(data.val), "no images to evaluate on"))
    if train.classes != val.classes:
        what = f"other classes than data.train {data.train!r}; they must be the same"
        faults.append(Fault(Path(data.root) / str(data.val), what))
    return {"train": train, "val": val}, [*dict.fromkeys([*faults, *of_val])]


def _dataset(
    data: DataConfig, part: Part, classes: list[str] | None, faults: list[Fault]
) -> DetectionDataset:
    if data.format == "lmdb":
        name = str(getattr(data, part))
        return LMDBDataset(Path(data.root), name, keep_difficult=data.keep_difficult)
    read = read_labelled(data, part, classes, faults)
    return DetectionDataset(
        read.annotations,
        read.classes,
        keep_difficult=data.keep_difficult,
        category_ids=read.category_ids,
    )


def _names(classes: list[str]) -> str:
    return ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
