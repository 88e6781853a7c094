"""The loop: sum the dict of losses, step, evaluate, keep the best."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
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
    ``model``, ``optimizer`` and ``loader`` have gone through ``accelerator.prepare``.

    Raises:
        TrainingError: if a loss is not finite.
    """
    model.train()
    sums: dict[str, Tensor] = {}
    step = 0
    for step, (images, targets) in enumerate(loader, start=1):
        images, targets = _on_device(images, targets, accelerator.device)
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


def fit(
    train_epoch: Callable[[], dict[str, float]],
    evaluate: Callable[[], Mapping[str, Any]],
    save: Callable[[str, int, float], None],
    report: Callable[[int, dict[str, float], Mapping[str, Any], float], None],
    epochs: range,
    best: float = -math.inf,
    eval_every: int = 1,
) -> Mapping[str, Any]:
    """Train for ``epochs``, evaluating, reporting and saving after each.

    Args:
        train_epoch: runs one epoch and returns its mean losses.
        evaluate: returns metrics; ``AP`` decides which epoch is the best.
        save: called as ``save("last" or "best", epoch, best AP so far)``.
        report: called as ``report(epoch, losses, metrics, seconds)``; metrics are empty for an
            epoch that was not evaluated.
        epochs: numbers of the epochs still to run.
        best: the best AP so far, of a run that is continued.
        eval_every: evaluate every so many epochs, and always after the last.

    Returns:
        The metrics of the last epoch.
    """
    metrics: Mapping[str, Any] = {}
    for epoch in epochs:
        start = time.monotonic()
        losses = train_epoch()
        due = epoch % eval_every == 0 or epoch == epochs[-1]
        metrics = evaluate() if due else {}
        ap = metrics.get("AP", -math.inf)
        if ap > best:
            best = ap
            save("best", epoch, best)
        save("last", epoch, best)
        report(epoch, losses, metrics, time.monotonic() - start)
    return metrics


def describe_losses(losses: Mapping[str, float]) -> str:
    return " ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())


def collate(batch: list[tuple[Tensor, dict[str, Any]]]) -> Batch:
    """Images of different sizes cannot be stacked; torchvision's detectors take lists."""
    images, targets = zip(*batch, strict=True)
    return list(images), list(targets)


def _on_device(images: list[Tensor], targets: list[dict[str, Any]], device: torch.device) -> Batch:
    def move(x: Any) -> Any:
        return x.to(device, non_blocking=True) if torch.is_tensor(x) else x

    return [move(x) for x in images], [{k: move(v) for k, v in t.items()} for t in targets]


def _means(sums: Mapping[str, Tensor], steps: int) -> dict[str, float]:
    means = {name: float(total) / steps for name, total in sums.items()}
    broken = [name for name, value in means.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(
            f"the loss is not finite ({', '.join(broken)}); lower train.lr, set "
            "train.clip_grad_norm, or look at the boxes of the data; the last checkpoint is intact"
        )
    return means
