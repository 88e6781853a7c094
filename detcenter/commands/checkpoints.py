"""A detector back from its checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torchvision.models.detection.ssd import SSD

from detcenter.commands import wiring
from detcenter.config import Config, config_from_dict
from detcenter.training import CheckpointError, load_checkpoint


def load_recipe(path: Path) -> Config:
    """The recipe that a checkpoint was trained with."""
    return config_from_dict(load_checkpoint(path)["config"])


def load_detector(path: Path) -> tuple[SSD, list[str]]:
    """The detector in eval mode on the fastest device, and its class names.

    Raises:
        CheckpointError: if the file is none of detcenter's, or its weights do not fit its recipe.
    """
    checkpoint: dict[str, Any] = load_checkpoint(path)
    config = config_from_dict(checkpoint["config"])
    model = wiring.detector(config, checkpoint["builder"], load=False)
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError as error:
        lines = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its weights are of another model ({lines})") from None
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return model.eval().to(device), checkpoint["classes"]
