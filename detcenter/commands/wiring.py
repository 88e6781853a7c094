"""From a recipe to the objects that it names."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.detection.ssd import SSD

from detcenter.config import (
    AugmentConfig,
    CenterConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    TermConfig,
)
from detcenter.data import (
    Annotation,
    BoxTransform,
    COCODataset,
    DetectionDataset,
    VOCDataset,
    WithinSides,
    build_transform,
    make_digits,
)
from detcenter.errors import ConfigError
from detcenter.losses import CenterLoss, RankHardLoss, metric_loss
from detcenter.models import (
    MODEL_NAMES,
    OVER_BACKBONES,
    attach,
    box_features,
    build_model,
    seam_of,
    set_l2_softmax,
    set_min_negatives,
)
from detcenter.training import collate, detect

logger = logging.getLogger("detcenter")

_OVER_BACKBONES = (
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


def augmentation(augment: AugmentConfig, model: nn.Module) -> BoxTransform:
    """The transform of the training images, down to the size that ``model`` takes."""
    switches = dataclasses.asdict(augment)
    preset = switches.pop("preset")
    chosen = {name: value for name, value in switches.items() if value is not None}
    return build_transform(_input_size(model), preset, **chosen)


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
    for key in ("min_negatives", "l2_softmax", "l2_softmax_learnt", "options"):
        chosen.pop(key, None)
    misplaced = [
        key for key in _OVER_BACKBONES if key in chosen and model.name not in OVER_BACKBONES
    ]
    if misplaced:
        raise ConfigError(
            f"model.{misplaced[0]} is for model.name: {' or '.join(OVER_BACKBONES)}; {model.name} "
            "has its own, remove the key"
        )
    if model.name in OVER_BACKBONES and model.backbone is None:
        raise ConfigError(
            f"model.backbone is missing: model.name {model.name} needs a torchvision classifier"
        )
    twice = sorted(chosen.keys() & model.options.keys())
    if twice:
        raise ConfigError(f"model.options.{twice[0]}: set model.{twice[0]} instead")
    return chosen | model.options | {"num_classes": len(classes) + 1}


def detector(
    config: Config, builder: dict[str, Any], steps_an_epoch: int = 1, load: bool = True
) -> nn.Module:
    """The model of a recipe, with its terms attached."""
    with _errors_of("model"):
        model = build_model(**builder, load=load)
        if config.model.l2_softmax is not None:
            set_l2_softmax(model, config.model.l2_softmax, config.model.l2_softmax_learnt)
    if config.model.min_negatives:
        if not isinstance(model, SSD):
            raise ConfigError(f"model.min_negatives is for SSDs; {config.model.name} has no mining")
        set_min_negatives(model, config.model.min_negatives)
    if config.center is not None:
        with _errors_of("center"):
            _attach_center(model, config.center, steps_an_epoch)
    for name, term in config.terms.items():
        with _errors_of(f"terms.{name}"):
            _attach_loss(model, name, term, steps_an_epoch)
    return model


def detect_in(
    dataset: DetectionDataset,
    model: nn.Module,
    batch_size: int,
    workers: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[dict[str, Any]]:
    """Detections in every image of ``dataset``, boxes in the pixels of its annotations.

    Images are brought to the model's size as in training, by averaging where they shrink; the
    model's own interpolation skips pixels. The transform of ``dataset`` is set to do so.
    """
    size = _input_size(model)
    dataset.transform = build_transform(size, "none")
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=collate)
    detections = detect(model, progress(loader), next(model.parameters()).device)
    for found, annotation in zip(detections, dataset.annotations, strict=True):
        found["boxes"] = found["boxes"] * _scale_back(annotation, size)
    return detections


def features_in(
    dataset: DetectionDataset,
    model: nn.Module,
    batch_size: int,
    workers: int,
    name: str | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, np.ndarray]:
    """The features of all ground-truth boxes of ``dataset``, as the term ``name`` saw them.

    ``features`` float32 [N, D], ``labels`` [N], ``boxes`` [N, 4] in the pixels of the annotations
    and ``images`` [N], the index of each box's image. Images are resized as in training.
    """
    size = _input_size(model)
    dataset.transform = build_transform(size, "none")
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=collate)
    device = next(model.parameters()).device
    columns: dict[str, list[Tensor]] = {"features": [], "labels": [], "boxes": [], "images": []}
    scales = (_scale_back(annotation, size) for annotation in dataset.annotations)
    image = itertools.count()
    for images, targets in progress(loader):
        on_device = [image.to(device) for image in images]
        boxes = [target["boxes"].to(device) for target in targets]
        columns["features"] += [x.cpu() for x in box_features(model, on_device, boxes, name)]
        for target in targets:
            columns["labels"].append(target["labels"])
            columns["boxes"].append(target["boxes"] * next(scales))
            columns["images"].append(torch.full_like(target["labels"], next(image)))
    return {key: torch.cat(parts).numpy() for key, parts in columns.items()}


def _input_size(model: Any) -> tuple[int, int] | WithinSides:
    """What ``model.transform`` resizes images to, so that it finds nothing left to do."""
    if model.transform.fixed_size is not None:
        width, height = model.transform.fixed_size
        return height, width
    return WithinSides(model.transform.min_size[-1], model.transform.max_size)


def _scale_back(annotation: Annotation, size: tuple[int, int] | WithinSides) -> Tensor:
    """What boxes in an image of the model's size are multiplied with, [4]."""
    whole = annotation["width"], annotation["height"]
    height, width = size.size_of(*whole) if isinstance(size, WithinSides) else size
    return torch.tensor([whole[0] / width, whole[1] / height] * 2)


def _attach_center(model: nn.Module, center: CenterConfig, steps_an_epoch: int) -> None:
    attach(
        model,
        alpha=center.alpha,
        normalize=center.normalize,
        **_term_arguments(center, steps_an_epoch),
    )


def _attach_loss(model: nn.Module, name: str, term: LossConfig, steps_an_epoch: int) -> None:
    seam = seam_of(model)
    embedded = term.features == "embedding"
    widths = [term.embedding_dim] if embedded else seam.feature_widths(model)
    if len(set(widths)) == 1 and term.loss != "CenterLoss":
        widths = widths[:1]  # one loss compares the boxes of all levels
    losses = [_loss(term, seam.num_classes(model), width) for width in widths]
    attach(model, losses, name=name, **_term_arguments(term, steps_an_epoch))


def _loss(term: LossConfig, num_classes: int, width: int) -> nn.Module:
    own = {"CenterLoss": CenterLoss, "RankHardLoss": RankHardLoss}
    if term.loss not in own:
        try:
            return metric_loss(
                term.loss, num_classes, width, term.args, term.miner, term.miner_args
            )
        except ImportError as error:
            raise ConfigError(f"loss {term.loss}: {error}") from None
    if term.miner is not None:
        raise ValueError(f"miner: {term.loss} picks its boxes itself")
    sizes = {"num_classes": num_classes, "feature_dim": width}
    args = (sizes if term.loss == "CenterLoss" else {}) | term.args
    try:
        return own[term.loss](**args)
    except TypeError as error:
        raise ValueError(f"{term.loss}: {error}") from None


def _term_arguments(term: TermConfig, steps_an_epoch: int) -> dict[str, Any]:
    return {
        "weight": term.weight,
        "features": term.features,
        "embedding_dim": term.embedding_dim,
        "embedding_weight": term.embedding_weight,
        "warmup": term.warmup,
        "start_step": term.start_epoch * steps_an_epoch,
        "min_iou": term.min_iou,
        "per_object": term.per_object,
    }


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
    except (ValueError, TypeError) as error:  # TypeError: of a builder's unknown argument
        raise ConfigError(f"{section}: {error}") from error


def _names(classes: list[str]) -> str:
    return ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
