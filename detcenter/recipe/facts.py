"""What a recipe is fitted to: the objects of the training images, and the machine."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision.models import get_model_weights

from detcenter.analysis.symmetry import SIDE, Symmetry, symmetry
from detcenter.data import DetectionDataset
from detcenter.data.dataset import Annotation
from detcenter.machine import computes_bf16, cores
from detcenter.models.weights import place_in_cache
from detcenter.progress import bar

_SEEN = 2000  # objects that tell whether the others may be mirrored
_MARGIN = 0.1  # of a box's sides, around its crop


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
    symmetry: Symmetry | None
    """what a mirror and turns leave of the classes; None if that cannot be said"""


class Machine(NamedTuple):
    """What a training has for itself."""

    cores: int
    """CPU cores that this process may use"""
    gpu_gib: float | None
    """memory of the GPU; None without one"""
    bf16: bool
    """whether there is a GPU with instructions for bfloat16"""


def facts_of(dataset: DetectionDataset) -> Facts:
    """Crowd boxes are not learnt from, and difficult ones only where the data set says so."""
    boxes = [np.zeros((0, 4))]
    for annotation in dataset.annotations:
        size = [annotation["width"], annotation["height"]] * 2
        boxes.append(annotation["boxes"][_learnt(dataset, annotation)] / size)
    sizes = np.array([[a["width"], a["height"]] for a in dataset.annotations])
    width, height = np.median(sizes, axis=0).tolist()
    seen = symmetry(*_crops(dataset))
    return Facts(len(dataset), width, height, dataset.classes, np.concatenate(boxes), seen)


def _learnt(dataset: DetectionDataset, annotation: Annotation) -> np.ndarray:
    """Which boxes of an image are learnt from [M]."""
    learnt = ~annotation["iscrowd"]
    return learnt if dataset.keep_difficult else learnt & ~annotation["difficult"]


def _crops(dataset: DetectionDataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops, labels and numbers of images, as :func:`symmetry` takes them."""
    crops, labels, images = list[np.ndarray](), list[int](), list[int]()
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    for number in bar("looking at objects")(order):
        if len(crops) >= _SEEN:
            break
        annotation = dataset.annotations[number]
        learnt = _learnt(dataset, annotation)
        if learnt.any():
            image = dataset.image(number)
            crops += [_crop(image, box) for box in annotation["boxes"][learnt]]
            labels += annotation["labels"][learnt].tolist()
            images += [number] * int(learnt.sum())
    shape = (-1, SIDE, SIDE, 3)
    return np.array(crops, np.uint8).reshape(shape), np.array(labels), np.array(images)


def _crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box and a margin, resized to a square; of an annotated size that is wrong, a corner."""
    margin = np.tile((box[2:] - box[:2]) * _MARGIN, 2) * [-1, -1, 1, 1]
    height, width = image.shape[:2]
    low = np.clip(np.floor(box + margin)[:2], 0, [width - 1, height - 1]).astype(int)
    high = np.maximum(np.clip(np.ceil(box + margin)[2:], 0, [width, height]).astype(int), low + 1)
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def this_machine() -> Machine:
    """The first GPU where there is one; a process may be bound to some of the cores."""
    if not torch.cuda.is_available():
        return Machine(cores(), None, False)
    memory = torch.cuda.get_device_properties(0).total_memory
    return Machine(cores(), memory / 2**30, computes_bf16(torch.device("cuda")))


def downloaded_weights(backbone: str) -> str | None:
    """A classifier's weight set of torchvision that is in torch's cache, DEFAULT before others."""
    sets = get_model_weights(backbone)
    names = ["DEFAULT", *(weights.name for weights in sets)]
    return next((name for name in names if place_in_cache(sets[name]).exists()), None)
