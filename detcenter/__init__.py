"""Center loss, and any loss on box features, for torchvision's object detectors."""

from pathlib import Path
from typing import Any

import torch

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
    "held_centers",
    "load",
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
