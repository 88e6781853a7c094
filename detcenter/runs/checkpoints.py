"""A detector back from its checkpoint."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from torch import nn

from detcenter.errors import ConfigError
from detcenter.models import EnrolledClasses, enroll
from detcenter.recipe.config import Config, config_from_dict
from detcenter.recipe.detectors import detector
from detcenter.training import CheckpointError, load_checkpoint
from detcenter.unknown import UnknownScorer


def checkpoint_in(args: Sequence[str]) -> tuple[dict[str, Any], Config | None]:
    """The checkpoint that ``--checkpoint`` names, and its recipe.

    It is looked for before the other arguments, whose defaults are in its recipe; without one
    there is nothing, for a parser to say so.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--checkpoint", type=Path, nargs="?")
    path: Path | None = finder.parse_known_args(args)[0].checkpoint
    if path is None:
        return {}, None
    checkpoint = load_checkpoint(path)
    return checkpoint, config_from_dict(checkpoint["config"])


def with_vote(checkpoint: Mapping[str, Any], asked: float | None) -> dict[str, Any]:
    """``checkpoint`` with the vote ``asked`` in its recipe.

    Raises:
        ConfigError: if there is no center term that could vote.
    """
    if checkpoint["config"]["center"] is not None:
        return voting_as(checkpoint, asked)
    if asked is not None:
        raise ConfigError(
            "--center.vote: the checkpoint's recipe has center: null, and without the term "
            "nothing embeds its boxes"
        )
    return dict(checkpoint)


def voting_as(checkpoint: Mapping[str, Any], asked: float | None) -> dict[str, Any]:
    """``checkpoint``, whose recipe has the term, with the vote ``asked`` in it."""
    config = checkpoint["config"]
    return {**checkpoint, "config": {**config, "center": {**config["center"], "vote": asked}}}


def detector_of(
    checkpoint: Mapping[str, Any], path: Path, device: torch.device | str | None = None
) -> nn.Module:
    """The detector of a loaded checkpoint, in eval mode on ``device``, or on the fastest.

    If the checkpoint has them, with its enrolled classes (:func:`enroll`), and its
    :class:`UnknownScorer` as ``unknown_scorer``.

    Raises:
        CheckpointError: if its weights do not fit its recipe, or its enrolled classes are of an
            older version; ``path`` is named.
        ConfigError: if it is to vote, and cannot.
    """
    config = config_from_dict(checkpoint["config"])
    model = detector(config, checkpoint["builder"], load=False)
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError as error:
        lines = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its weights are of another model ({lines})") from None
    classes = enrolled_classes(checkpoint, path)
    if classes is not None:
        enroll(model, classes)
    if checkpoint.get("unknown") is not None:  # of detcenter openset --save
        model.unknown_scorer = UnknownScorer(**checkpoint["unknown"])
    return model.eval().to(device or _fastest())


def _fastest() -> torch.device:
    """Of those that may be used: accelerate's variable is how --device cpu says so."""
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    found = None if on_cpu else torch.accelerator.current_accelerator(check_available=True)
    return found or torch.device("cpu")


def enrolled_classes(checkpoint: Mapping[str, Any], path: Path) -> EnrolledClasses | None:
    """Those of ``detcenter enroll``.

    Raises:
        CheckpointError: if they are of an older version; ``path`` is named.
    """
    state = checkpoint.get("enrolled")
    if state is None:
        return None
    if "variance" not in state["taught"]:
        raise CheckpointError(
            f"{path}: its classes were enrolled by an older detcenter, which told them in another "
            "way; enroll them again, with the checkpoint that they were added to"
        )
    return EnrolledClasses(**state)


def classes_of(checkpoint: Mapping[str, Any]) -> list[str]:
    """The names from label 1: those that were taught, and then those that are enrolled."""
    enrolled = (checkpoint.get("enrolled") or {}).get("enrolled", {})
    return [*checkpoint["classes"], *enrolled]


def load(path: str | Path, device: torch.device | str | None = None) -> Any:
    """The detector in a checkpoint of ``detcenter train``, in eval mode, ready to detect.

    Args:
        path: of the checkpoint, ``runs/digits/best.pth`` say; or of a run's folder, for its best
            one, or of a folder or file of ``detcenter export --to safetensors``.
        device: None is the fastest.

    Returns:
        The model. Its ``classes`` are the names from label 1: ``model.classes[label - 1]``, with
        those that are enrolled. Of a checkpoint of ``detcenter openset --save`` its
        ``unknown_scorer`` scores what is unknown.

    Raises:
        CheckpointError: if it is no checkpoint of detcenter, or damaged, or if its enrolled classes
            are of an older version.
        ConfigError: if its recipe is of another version.
    """
    checkpoint = load_checkpoint(Path(path))
    model: Any = detector_of(checkpoint, Path(path), device)
    model.classes = classes_of(checkpoint)
    return model
