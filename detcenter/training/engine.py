"""The loop: sum the dict of losses, step; and detections of a whole data set."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

Batch = tuple[list[Tensor], list[dict[str, Any]]]
_REPORT_EVERY = 10  # steps; reading a loss waits for the device


class TrainingError(RuntimeError):
    """A run that cannot go on, such as one whose loss is not finite."""


class Progress(Protocol):
    """What the loop needs of a progress bar; tqdm's is one."""

    def update(self, n: int) -> Any: ...
    def set_postfix_str(self, s: str, refresh: bool) -> Any: ...


def train_epoch(
    model: nn.Module,
    loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    accelerator: Accelerator,
    progress: Progress,
    clip_grad_norm: float | None = None,
) -> dict[str, float]:
    """One pass over ``loader``; returns the mean of every loss by name.

    ``loader`` gives lists of images [3, H, W] and of targets, as torchvision's detectors take them;
    ``optimizer``, ``schedule`` and ``loader`` have gone through ``accelerator.prepare``, ``model``
    is on its device.

    Raises:
        TrainingError: if a loss is not finite.
    """
    model.train()
    sums: dict[str, Tensor] = {}
    step = 0
    for step, (images, targets) in enumerate(loader, start=1):
        with accelerator.autocast():
            losses = model(images, targets)
        accelerator.backward(sum(losses.values()))
        if clip_grad_norm is not None:
            accelerator.clip_grad_norm_(model.parameters(), clip_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss.detach()
        if step % _REPORT_EVERY == 1:
            progress.set_postfix_str(describe_losses(_means(sums, step)), refresh=False)
        progress.update(len(images))
    return _means(sums, max(1, step))


@torch.inference_mode()
def detect(
    model: nn.Module, loader: Iterable[Batch], device: torch.device
) -> list[dict[str, Tensor]]:
    """Detections of every image of ``loader``, on the CPU: ``boxes``, ``scores``, ``labels``."""
    model.eval()
    detections = []
    for images, _ in loader:
        for found in model([image.to(device) for image in images]):
            detections.append({name: x.cpu() for name, x in found.items()})
    return detections


def describe_losses(losses: Mapping[str, float]) -> str:
    """By name, short enough for a terminal of 80 columns."""
    short = {"bbox_regression": "box", "classification": "class"}
    names = {name: short.get(name, name.removeprefix("loss_")) for name in losses}
    return " ".join(f"{names[name]} {value:.3g}" for name, value in losses.items())


def collate(batch: list[tuple[Tensor, dict[str, Any]]]) -> Batch:
    """Images of different sizes cannot be stacked; torchvision's detectors take lists."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def _means(sums: Mapping[str, Tensor], steps: int) -> dict[str, float]:
    means = {name: float(total) / steps for name, total in sums.items()}
    broken = [name for name, value in means.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(
            f"the loss is not finite ({', '.join(broken)}); lower train.lr, set "
            "train.clip_grad_norm, or look at the boxes of the data; the last checkpoint is intact"
        )
    return means
