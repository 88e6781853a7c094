"""Batches on their way from a loading process to the device."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

Batch = tuple[list[Tensor], list[dict[str, Any]]]
"""Images [3, H, W] and targets, as torchvision's detectors take them."""


class PackedBatch(NamedTuple):
    """A batch in few tensors: each costs a file between processes, and a copy to the device."""

    images: Tensor | list[Tensor]
    """[B, 3, H, W], or a list of [3, H, W] where they differ in size"""
    boxes: Tensor
    """[M, 4], those of one image after those of another"""
    labels: Tensor
    """[M]"""
    counts: list[int]
    """of boxes, by image"""
    image_ids: list[int | str]


def collate(items: Sequence[tuple[Tensor, Mapping[str, Any]]]) -> PackedBatch:
    """Items of a detection data set as a batch that travels well; see :func:`on_device`."""
    images = [image for image, _ in items]
    targets = [target for _, target in items]
    alike = len({image.shape for image in images}) == 1
    return PackedBatch(
        # Its stack is made where the other process reads it.
        default_collate(images) if alike else images,
        torch.cat([target["boxes"] for target in targets]),
        torch.cat([target["labels"] for target in targets]),
        [len(target["boxes"]) for target in targets],
        [target["image_id"] for target in targets],
    )


def on_device(batch: Batch | PackedBatch, device: torch.device) -> Batch:
    """A batch as a detector takes it: images as :func:`as_floats`, the targets' tensors moved."""
    if isinstance(batch, PackedBatch):
        boxes = batch.boxes.to(device, non_blocking=True).split(batch.counts)
        labels = batch.labels.to(device, non_blocking=True).split(batch.counts)
        columns = zip(boxes, labels, batch.image_ids, strict=True)
        named = [{"boxes": b, "labels": k, "image_id": i} for b, k, i in columns]
        return as_floats(batch.images, device), named
    images, targets = batch
    moved = [
        {k: x.to(device, non_blocking=True) if torch.is_tensor(x) else x for k, x in t.items()}
        for t in targets
    ]
    return as_floats(images, device), moved


def as_floats(images: Sequence[Tensor] | Tensor, device: torch.device) -> list[Tensor]:
    """Images [3, H, W] on ``device``; those of bytes are moved as bytes, then made floats, 0..1.

    A tensor of images [B, 3, H, W] is moved and divided as one.
    """
    if torch.is_tensor(images):
        return list(_floats(images.to(device, non_blocking=True)))
    return [_floats(image.to(device, non_blocking=True)) for image in images]


def _floats(x: Tensor) -> Tensor:
    return x.to(torch.float32).div_(255) if x.dtype == torch.uint8 else x
