"""What a recipe is fitted to: the objects of the training images, and the machine."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision.models import get_model_weights

from detcenter.data import DetectionDataset


class Facts(NamedTuple):
    """Of the images that are trained on."""

    images: int
    width: float
    """of an image, the median in pixels"""
    height: float
    """likewise"""
    classes: list[str]
    boxes: np.ndarray
    """of the objects that are learnt from, xyxy as parts of their image's sides, float64 [M, 4]"""


class Machine(NamedTuple):
    """What a training has for itself."""

    cores: int
    """CPU cores that this process may use"""
    gpu_gib: float | None
    """memory of the GPU; None without one"""
    bf16: bool
    """whether the GPU computes in bf16"""


def facts_of(dataset: DetectionDataset) -> Facts:
    """Crowd boxes are not learnt from, and difficult ones only where the data set says so."""
    boxes = [np.zeros((0, 4))]
    for annotation in dataset.annotations:
        learnt = ~annotation["iscrowd"]
        if not dataset.keep_difficult:
            learnt &= ~annotation["difficult"]
        size = [annotation["width"], annotation["height"]] * 2
        boxes.append(annotation["boxes"][learnt] / size)
    sizes = np.array([[a["width"], a["height"]] for a in dataset.annotations])
    width, height = np.median(sizes, axis=0).tolist()
    return Facts(len(dataset), width, height, dataset.classes, np.concatenate(boxes))


def this_machine() -> Machine:
    """The first GPU where there is one; a process may be bound to some of the cores."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    if not torch.cuda.is_available():
        return Machine(cores, None, False)
    memory = torch.cuda.get_device_properties(0).total_memory
    return Machine(cores, memory / 2**30, torch.cuda.is_bf16_supported())


def downloaded_weights(backbone: str) -> str | None:
    """A classifier's weight set of torchvision that is in torch's cache, DEFAULT before others."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    sets = get_model_weights(backbone)
    names = ["DEFAULT", *(weights.name for weights in sets)]
    return next((name for name in names if (folder / Path(sets[name].url).name).exists()), None)
