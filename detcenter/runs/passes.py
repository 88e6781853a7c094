"""A model over the images of a data set: their size, what it detects, features of the boxes."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from detcenter.data import (
    BoxTransform,
    DetectionDataset,
    WithinSides,
    build_transform,
)
from detcenter.evaluation import ManyDetections, limit_remarks
from detcenter.models import box_features, box_logits, detect_with_features
from detcenter.recipe.config import AugmentConfig
from detcenter.training import collate, detect, ignore_stops, on_device
from detcenter.unknown import UnknownScorer

logger = logging.getLogger("detcenter")

_KEYS = ("boxes", "scores", "labels")  # of masks and key points nothing is measured


def augmentation(augment: AugmentConfig, model: nn.Module) -> BoxTransform:
    """The transform of the training images, down to the size that ``model`` takes."""
    switches = dataclasses.asdict(augment)
    preset = switches.pop("preset")
    chosen = {name: value for name, value in switches.items() if value is not None}
    return build_transform(input_size(model), preset, **chosen)


def detect_in(
    dataset: DetectionDataset,
    model: nn.Module,
    batch_size: int,
    workers: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    indices: Sequence[int] | None = None,
    scorer: UnknownScorer | None = None,
) -> Sequence[dict[str, Any]]:
    """Detections in the images of ``dataset``, boxes in the pixels of its annotations.

    ``boxes``, ``scores`` and ``labels``; with a ``scorer`` as `detect_with_features` gives them.

    In all images, or in those of ``indices``, in their order.

    Images are brought to the model's size as in training, by averaging where they shrink; the
    model's own interpolation skips pixels. The transform of ``dataset`` is set to do so.
    """
    size = input_size(model)
    dataset.transform = build_transform(size, "none")
    indices = range(len(dataset)) if indices is None else indices
    loader = _in_order(dataset, indices, batch_size, workers)
    detections = detect(
        model, progress(loader), next(model.parameters()).device, scoring(model, scorer)
    )

    def in_pixels() -> Iterator[dict[str, Tensor]]:
        for found, index in zip(detections, indices, strict=True):
            whole = dataset.annotations[index]
            boxes = found["boxes"] * scale_back(whole["width"], whole["height"], size)
            others = found if scorer is not None else {key: found[key] for key in _KEYS}
            yield others | {"boxes": boxes}

    return ManyDetections.of(in_pixels())


def scoring(
    model: nn.Module, scorer: UnknownScorer | None
) -> Callable[[list[Tensor]], list[dict[str, Tensor]]] | None:
    """What detects and scores, in place of ``model`` alone; None without a scorer."""
    return None if scorer is None else partial(detect_with_features, model, scorer=scorer)


def detect_together(
    dataset: DetectionDataset,
    model: nn.Module,
    batch_size: int,
    workers: int,
    accelerator: Accelerator,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Sequence[dict[str, Any]]:
    """:func:`detect_in` all images, of which every process takes a part; all get the result."""
    mine = range(accelerator.process_index, len(dataset), accelerator.num_processes)
    found = detect_in(dataset, model, batch_size, workers, progress, mine)
    parts = gather_object([found])
    if len(parts) == 1:
        return found
    return ManyDetections.of(parts[i % len(parts)][i // len(parts)] for i in range(len(dataset)))


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
    size = input_size(model)
    dataset.transform = build_transform(size, "none")
    loader = _in_order(dataset, range(len(dataset)), batch_size, workers)
    device = next(model.parameters()).device
    columns: dict[str, list[Tensor]] = {"features": [], "labels": [], "boxes": [], "images": []}
    scales = (scale_back(a["width"], a["height"], size) for a in dataset.annotations)
    image = itertools.count()
    for batch in progress(loader):
        images, targets = on_device(batch, device)
        found = box_features(model, images, [target["boxes"] for target in targets], name)
        columns["features"] += [x.cpu() for x in found]
        for target in targets:
            columns["labels"].append(target["labels"].cpu())
            columns["boxes"].append(target["boxes"].cpu() * next(scales))
            columns["images"].append(torch.full((len(target["labels"]),), next(image)))
    return {key: torch.cat(parts).numpy() for key, parts in columns.items()}


def logits_and_features(
    dataset: DetectionDataset,
    model: nn.Module,
    boxes: Sequence[np.ndarray],
    batch_size: int,
    workers: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Class logits and features of given boxes, one after the other, [N, C] and [N, D] float32.

    Args:
        boxes: of each image, [M, 4] in the pixels of its annotation; small ones too, which a
            training leaves out when they shrink to less than a pixel.
    """
    size = input_size(model)
    dataset.transform = build_transform(size, "none")
    loader = _in_order(dataset, range(len(dataset)), batch_size, workers)
    device = next(model.parameters()).device
    scales = (scale_back(a["width"], a["height"], size) for a in dataset.annotations)
    waiting = iter(boxes)
    logits, features = list[Tensor](), list[Tensor]()
    for batch in progress(loader):
        images, _ = on_device(batch, device)
        given = [torch.from_numpy(next(waiting)) / next(scales) for _ in images]
        on_images = [b.to(device, torch.float32) for b in given]
        logits += [x.cpu() for x in box_logits(model, images, on_images)]
        features += [x.cpu() for x in box_features(model, images, on_images)]
    return torch.cat(logits).numpy(), torch.cat(features).numpy()


def _in_order(
    dataset: DetectionDataset, indices: Sequence[int], batch_size: int, workers: int
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size,
        sampler=indices,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=ignore_stops,
        generator=torch.Generator(),  # else it would draw from the one that training draws from
    )


def remark_limits(dataset: DetectionDataset, max_detections: int, model: Any = None) -> None:
    """Warn of images with more objects than COCO's numbers count, or than ``model`` gives."""
    of_images = getattr(model, "roi_heads", model)
    given = None if model is None else int(of_images.detections_per_img)
    for remark in limit_remarks(dataset.annotations, dataset.classes, max_detections, given):
        logger.warning(remark)


def input_size(model: Any) -> tuple[int, int] | WithinSides:
    """What ``model.transform`` resizes images to, so that it finds nothing left to do."""
    if model.transform.fixed_size is not None:
        width, height = model.transform.fixed_size
        return height, width
    canvas = getattr(model.transform, "canvas", None)  # of an exported one
    return WithinSides(model.transform.min_size[-1], model.transform.max_size, canvas)


def size_within(width: int, height: int, size: tuple[int, int] | WithinSides) -> tuple[int, int]:
    """(height, width) that an image is brought to."""
    return size.size_of(width, height) if isinstance(size, WithinSides) else size


def scale_back(width: int, height: int, size: tuple[int, int] | WithinSides) -> Tensor:
    """What boxes in an image of the model's size are multiplied with, [4]."""
    small_height, small_width = size_within(width, height, size)
    return torch.tensor([width / small_width, height / small_height] * 2)
