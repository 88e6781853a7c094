"""From a recipe to the data sets that it names."""

import logging
from pathlib import Path
from typing import Literal

from detcenter.config import DataConfig
from detcenter.data import COCODataset, DetectionDataset, VOCDataset, make_digits
from detcenter.errors import ConfigError

logger = logging.getLogger("detcenter")


def training_set(data: DataConfig) -> DetectionDataset:
    """The training images, not augmented; see :func:`augmentation`."""
    if data.format == "coco" and data.classes is not None:
        raise ConfigError("data.classes is for data.format: voc; COCO's JSON names its categories")
    dataset = _dataset(data, data.train, data.train_images, data.classes)
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
    """The images of ``data.train`` or ``data.val``, whose classes must be ``classes``."""
    name = {"train": data.train, "val": data.val}[part]
    images = {"train": data.train_images, "val": data.val_images}[part]
    dataset = _dataset(data, name, images, classes)
    if dataset.classes != classes:
        raise ConfigError(
            f"data.{part} {name!r} has the classes {_names(dataset.classes)}, "
            f"the training set or checkpoint {_names(classes)}; they must be the same"
        )
    return dataset


def _dataset(
    data: DataConfig, part: str, images: str, classes: list[str] | None
) -> DetectionDataset:
    root = Path(data.root)
    if data.format == "digits":
        make_digits(root)
    elif not root.is_dir():
        raise ConfigError(f"data.root {data.root!r} is no folder; set it to where the data set is")
    if data.format == "coco":
        dataset: DetectionDataset = COCODataset(root / images, root / part)
    else:
        dataset = VOCDataset(root, part, classes, keep_difficult=data.keep_difficult)
    if len(dataset) == 0:
        raise ConfigError(f"{part!r} of data.root {data.root!r} is empty: it names no images")
    return dataset


def _names(classes: list[str]) -> str:
    return ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
