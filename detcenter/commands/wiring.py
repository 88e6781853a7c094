"""From a recipe to the objects that it names."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision.models.detection.ssd import SSD

from detcenter.config import AugmentConfig, Config, DataConfig, ModelConfig
from detcenter.data import (
    BoxTransform,
    COCODataset,
    DetectionDataset,
    VOCDataset,
    build_transform,
    make_digits,
)
from detcenter.errors import ConfigError
from detcenter.models import MODEL_NAMES, attach, build_model, set_min_negatives
from detcenter.training import collate, detect

logger = logging.getLogger("detcenter")

_ONLY_SSD = (
    "backbone",
    "image_size",
    "strides",
    "anchor_scales",
    "aspect_ratios",
    "top_stride",
    "out_channels",
    "frozen_batch_norm",
)


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
    dataset = _dataset(data, data.val, data.val_images, classes)
    if dataset.classes != classes:
        raise ConfigError(
            f"data.val {data.val!r} has the classes {_names(dataset.classes)}, "
            f"the training set or checkpoint {_names(classes)}; they must be the same"
        )
    return dataset


def augmentation(augment: AugmentConfig, model: SSD) -> BoxTransform:
    """The transform of the training images, down to the size that ``model`` takes."""
    switches = dataclasses.asdict(augment)
    preset = switches.pop("preset")
    chosen = {name: value for name, value in switches.items() if value is not None}
    return build_transform(model.transform.fixed_size, preset, **chosen)


def builder_arguments(model: ModelConfig, classes: list[str]) -> dict[str, Any]:
    """The arguments of ``build_model`` that ``model`` asks for; plain values, for a checkpoint."""
    if model.num_classes not in (None, len(classes) + 1):
        raise ConfigError(
            f"model.num_classes is {model.num_classes}, but the data has {len(classes)} classes "
            f"({_names(classes)}) and background makes {len(classes) + 1}; set it so, or to null"
        )
    if model.name not in MODEL_NAMES:
        raise ConfigError(f"model.name {model.name!r} is none of {', '.join(MODEL_NAMES)}")
    chosen = {k: v for k, v in dataclasses.asdict(model).items() if v is not None}
    del chosen["min_negatives"]
    misplaced = [key for key in _ONLY_SSD if key in chosen and model.name != "ssd"]
    if misplaced:
        raise ConfigError(
            f"model.{misplaced[0]} is for model.name: ssd; {model.name} has its own, remove the key"
        )
    if model.name == "ssd" and model.backbone is None:
        raise ConfigError(
            "model.backbone is missing: model.name ssd needs a torchvision classifier"
        )
    return chosen | {"num_classes": len(classes) + 1}


def detector(config: Config, builder: dict[str, Any], load: bool = True) -> SSD:
    """The model of a recipe, with its term attached."""
    with _errors_of("model"):
        model = build_model(**builder, load=load)
    if config.model.min_negatives:
        set_min_negatives(model, config.model.min_negatives)
    if config.center is not None:
        with _errors_of("center"):
            attach(model, **dataclasses.asdict(config.center))
    return model


def detect_in(
    dataset: DetectionDataset,
    model: SSD,
    batch_size: int,
    workers: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[dict[str, Any]]:
    """Detections in every image of ``dataset``, boxes in the pixels of its annotations.

    Images are brought to the model's size as in training, by averaging where they shrink; the
    model's own interpolation skips pixels. The transform of ``dataset`` is set to do so.
    """
    height, width = model.transform.fixed_size
    dataset.transform = build_transform((height, width), "none")
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=collate)
    detections = detect(model, progress(loader), next(model.parameters()).device)
    for found, annotation in zip(detections, dataset.annotations, strict=True):
        x, y = annotation["width"] / width, annotation["height"] / height
        found["boxes"] = found["boxes"] * torch.tensor([x, y, x, y])
    return detections


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


@contextmanager
def _errors_of(section: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{section}: {error}") from error


def _names(classes: list[str]) -> str:
    return ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
