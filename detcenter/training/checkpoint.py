"""Checkpoints: plain containers of tensors, numbers and strings, written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_KEYS = {"model", "builder", "classes", "config"}


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or not one of detcenter."""


def save_checkpoint(path: Path, **entries: Any) -> None:
    """Write ``entries`` to ``path``; what was there before stays until the new file is whole.

    ``model`` (a state dict), ``builder`` (the arguments it was built with), ``classes`` (names
    from label 1) and ``config`` are needed to load it again.
    """
    missing = _KEYS - entries.keys()
    if missing:
        raise TypeError(f"a checkpoint needs the entries {sorted(missing)}")
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(entries, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, executing nothing that it may contain.

    Raises:
        CheckpointError: in one line, what is wrong with the file.
    """
    try:
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch.load raises whatever the damage leads to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from None
    missing = _KEYS - set(checkpoint) if isinstance(checkpoint, dict) else _KEYS
    if missing:
        raise CheckpointError(
            f"{path}: not a detcenter checkpoint, it has no {', '.join(sorted(missing))}; "
            "plain torchvision weights go into init_from of a recipe"
        )
    return dict(checkpoint)


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Of the generators that a training on ``device`` draws from."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_rng_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Put back what :func:`rng_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
