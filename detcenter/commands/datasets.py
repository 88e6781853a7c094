"""From a recipe to the data sets that it names."""

import dataclasses
import logging
from pathlib import Path
from typing import Literal

import numpy as np

from detcenter.config import DataConfig
from detcenter.data import (
    COCODataset,
    DetectionDataset,
    LMDBDataset,
    PooledDataset,
    VOCDataset,
    make_digits,
)
from detcenter.errors import ConfigError

logger = logging.getLogger("detcenter")


def training_set(data: DataConfig) -> DetectionDataset:
    """The training images, not augmented; see :func:`augmentation`."""
    if data.format in ("coco", "lmdb") and data.classes is not None:
        raise ConfigError(
            "data.classes is for data.format: voc; COCO's JSON names its categories, and a packed "
            "data set has the classes that it was packed with"
        )
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


def part_of(
    data: DataConfig, part: Literal["train", "val"], classes: list[str]
) -> DetectionDataset:
    """The images of ``data.train`` or ``data.val``, whose classes must be ``classes``.

    With ``data.folds``, those of the fold that is held out ("val"), or of the others ("train").
    """
    dataset = _part(data, part, classes)
    if dataset.classes != classes:
        raise ConfigError(
            f"data.{part} {getattr(data, part)!r} has the classes {_names(dataset.classes)}, "
            f"the training set or checkpoint {_names(classes)}; they must be the same"
        )
    return dataset


def _part(
    data: DataConfig, part: Literal["train", "val"], classes: list[str] | None
) -> DetectionDataset:
    if data.folds is None:
        images = {"train": data.train_images, "val": data.val_images}[part]
        return _dataset(data, getattr(data, part), images, classes)
    if data.fold >= data.folds:
        raise ConfigError(f"data.fold is {data.fold}; data.folds {data.folds} has 0 and on")
    uncut = dataclasses.replace(data, folds=None)
    train = _part(uncut, "train", classes)
    val = part_of(uncut, "val", train.classes)
    return _fold_of([train, val], data, part)


def _fold_of(
    both: list[DetectionDataset], data: DataConfig, part: Literal["train", "val"]
) -> DetectionDataset:
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


def _dataset(
    data: DataConfig, part: str, images: str, classes: list[str] | None
) -> DetectionDataset:
    root = Path(data.root)
    if data.format == "digits":
        try:
            make_digits(root, **dataclasses.asdict(data.digits))
        except ValueError as error:
            raise ConfigError(f"data.digits: {error}") from None
    elif data.format != "lmdb" and not root.is_dir():
        raise ConfigError(f"data.root {data.root!r} is no folder; set it to where the data set is")
    if data.format == "coco":
        dataset: DetectionDataset = COCODataset(root / images, root / part)
    elif data.format == "lmdb":
        dataset = LMDBDataset(root, part, keep_difficult=data.keep_difficult)
    else:
        dataset = VOCDataset(root, part, classes, keep_difficult=data.keep_difficult)
    if len(dataset) == 0:
        raise ConfigError(f"{part!r} of data.root {data.root!r} is empty: it names no images")
    return dataset


def _names(classes: list[str]) -> str:
    return ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
