"""Center loss, and any loss on box features, for torchvision's object detectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from detcenter.batched import fast
from detcenter.losses import CenterLoss, MultiBoxLoss, RankHardLoss, held_centers
from detcenter.models import (
    Embedding,
    L2Softmax,
    attach,
    box_features,
    detach,
    detect_with_features,
    set_l2_softmax,
)

if TYPE_CHECKING:
    from detcenter.evaluation import Prediction

__all__ = [
    "CenterLoss",
    "Embedding",
    "L2Softmax",
    "MultiBoxLoss",
    "RankHardLoss",
    "attach",
    "box_features",
    "detach",
    "detect_with_features",
    "fast",
    "held_centers",
    "load",
    "predict",
    "set_l2_softmax",
]
__version__ = "0.1.0"


def load(path: str | Path, device: torch.device | str | None = None) -> Any:
    """The detector in a checkpoint of ``detcenter train``, in eval mode, ready to detect.

    Args:
        path: of the checkpoint, ``runs/digits/best.pth`` say.
        device: None is the fastest.

    Returns:
        The model. Its ``classes`` are the names from label 1: ``model.classes[label - 1]``.

    Raises:
        CheckpointError: if it is no checkpoint of detcenter, or damaged.
        ConfigError: if its recipe is of another version.
    """
    # Recipes need more than torch, which those who only attach need not have.
    from detcenter.runs.checkpoints import detector_in

    return detector_in(Path(path), device)


def predict(
    model: torch.nn.Module,
    images: str | Path | Sequence[str | Path],
    every: int = 1,
    batch_size: int = 8,
    workers: int = 0,
) -> Iterator[Prediction]:
    """What a detector finds in images and videos, one after another: nothing is kept.

    It sees them as in training and in `detcenter predict`: brought to its size by averaging, where
    torchvision's own interpolation skips pixels.

    Args:
        model: of :func:`load`, or any of torchvision's detectors.
        images: a file, a folder with all below it, or several of them.
        every: of videos, and of files with several frames, only every so-many-th frame.
        batch_size: images that the model gets at once.
        workers: threads that load images ahead.

    Yields:
        For every image or frame its `file`, `frame` (from 0; None where a file has one image),
        `image` (uint8 RGB [H, W, 3]) and `detection`, the dict of `boxes` [N, 4] (xyxy in pixels
        of `image`), `scores` and `labels` that torchvision's detectors give.

    Raises:
        DataError: when it comes to an image that cannot be read.
    """
    from detcenter.data import files_at, sources
    from detcenter.runs.prediction import predictions

    named = [images] if isinstance(images, str | Path) else images
    files = (file for name in named for file in files_at(Path(name)))
    return predictions(model, sources(files), every, batch_size, workers)
