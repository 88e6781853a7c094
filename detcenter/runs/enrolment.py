"""The boxes that a class is enrolled by, and what a detector sees in them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detcenter.data import DataError, DetectionDataset, Fault, PooledDataset, image_size
from detcenter.data.dataset import learnable
from detcenter.data.layouts.labelled import NamedBoxes, labelled
from detcenter.errors import ConfigError, nearest
from detcenter.models import EnrolledClasses
from detcenter.progress import bar
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import part_of, read_part
from detcenter.recipe.layouts import resolved
from detcenter.runs.passes import features_in, logits_and_features

_BATCH = 8  # images


class FewBoxes(NamedTuple):
    """Images with boxes of one class."""

    images: DetectionDataset
    boxes: list[np.ndarray]
    """of each image, [M, 4] in its pixels"""

    @property
    def total(self) -> int:
        """Of all boxes."""
        return sum(map(len, self.boxes))


def annotated_boxes(data: DataConfig, name: str) -> FewBoxes:
    """The boxes of the class ``name`` in ``data.train``, whether it is taught or not.

    Raises:
        ConfigError, DataError: there is none, or the data cannot be read.
    """
    data = resolved(data)
    if isinstance(data.val, float):  # all images are of use
        data = dataclasses.replace(data, val=data.train)
    read = read_part(dataclasses.replace(data, unknown=None), "train", data.classes)
    if read.faults and data.on_error == "raise":
        raise DataError(*dict.fromkeys(read.faults))
    dataset = read.dataset
    if name not in dataset.classes:
        where = f"data.train {data.train!r} of {data.root!r}"
        raise ConfigError(f"{where} has no class {name!r}; {nearest(name, dataset.classes)}")
    label = dataset.classes.index(name) + 1
    masks = [
        learnable(a, dataset.keep_difficult) & (a["labels"] == label) for a in dataset.annotations
    ]
    chosen = [place for place, mask in enumerate(masks) if mask.any()]
    if not chosen:
        raise ConfigError(f"data.train {data.train!r} of {data.root!r} has no box of {name!r}")
    boxes = [dataset.annotations[place]["boxes"][masks[place]] for place in chosen]
    return FewBoxes(PooledDataset([dataset], chosen), boxes)


def given_boxes(by_file: Mapping[Path, Sequence[Sequence[float]]], name: str) -> FewBoxes:
    """Boxes that a person names, xyxy in pixels of their image files.

    Raises:
        DataError: an image cannot be read.
    """
    named = []
    for path, boxes in by_file.items():
        width, height = image_size(path)
        named.append(NamedBoxes(path, path, width, height, boxes, [name] * len(boxes)))
    faults = list[Fault]()
    annotations = labelled(named, [name], faults).annotations
    if faults:
        raise DataError(*dict.fromkeys(faults))
    images = DetectionDataset(annotations, [name])
    return FewBoxes(images, [annotation["boxes"] for annotation in images.annotations])


def some_boxes(few: FewBoxes, count: int, seed: int) -> FewBoxes:
    """``count`` of them by chance, always the same for a seed."""
    image = np.repeat(np.arange(len(few.boxes)), [len(b) for b in few.boxes])
    taken = np.random.default_rng(seed).permutation(few.total)[:count]
    kept = np.isin(np.arange(few.total), taken)
    masks = [kept[image == place] for place in range(len(few.boxes))]
    chosen = [place for place, mask in enumerate(masks) if mask.any()]
    boxes = [few.boxes[place][masks[place]] for place in chosen]
    return FewBoxes(PooledDataset([few.images], chosen), boxes)


def seen_in(few: FewBoxes, model: nn.Module, workers: int) -> Tensor:
    """The features of the boxes, [N, D]."""
    progress = bar("few boxes", "batch")
    _, found = logits_and_features(few.images, model, few.boxes, _BATCH, workers, progress)
    return torch.from_numpy(found)


def taught_classes(model: nn.Module, data: DataConfig, classes: list[str]) -> EnrolledClasses:
    """No enrolled class yet, in the space of the boxes of ``data.train``."""
    train = part_of(data, "train", classes)
    found = features_in(train, model, _BATCH, data.workers, progress=bar("trained on", "batch"))
    parts = torch.from_numpy(found["features"]), torch.from_numpy(found["labels"])
    try:
        return EnrolledClasses.fit(*parts)
    except ValueError as error:
        raise ConfigError(f"data.train: {error}") from None
