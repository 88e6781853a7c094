"""A detector back from its checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detcenter.commands import wiring
from detcenter.config import config_from_dict
from detcenter.training import CheckpointError


def detector_of(checkpoint: Mapping[str, Any], path: Path) -> nn.Module:
    """The detector of a loaded checkpoint, in eval mode on the fastest device.

    Raises:
        CheckpointError: if its weights do not fit its recipe; ``path`` is named.
    """
    config = config_from_dict(checkpoint["config"])
    model = wiring.detector(config, checkpoint["builder"], load=False)
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError as error:
        lines = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its weights are of another model ({lines})") from None
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return model.eval().to(device)
