"""The folder of a run: whether it may be written to or gone on with, and what a run deletes."""

import re
import shutil
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from detcenter.errors import ConfigError
from detcenter.recipe.config import Config, config_from_dict, differences
from detcenter.whole_file import whole_file

LAST, PREVIOUS = "last.pth", "previous.pth"
"""Checkpoints: the newest, and the one before it, for when the newest is damaged."""

DAMAGED = (ValueError, KeyError, EOFError, BadZipFile, zlib.error)
"""What reading a damaged .npz raises."""

FAILED = "failed.txt"
"""Why the run failed, a line each time."""

_WRITTEN = (
    "*.pth",
    "*.partial",
    "config.yaml",
    "metrics.csv",
    "results.json",
    "detections.npz",
    "detections.png",
    "audit.npz",
    "features_*.npz",
    "measured.json",
)
_OF_TRACKERS = (".aim", "dvclive", "swanlab", "tensorboard", "wandb")  # folders
_BEFORE_THE_FIRST_CHECKPOINT = {
    *_OF_TRACKERS,
    "config.yaml",
    FAILED,
    LAST,  # while it is being written
    "log.txt",
    "metrics.csv",
}
_BESIDE = re.compile(r"claim\.\d+|(\.[0-9a-f]{8})?\.partial$")
"""Of names: what says that a run is claimed, or that a file is being written."""
_FREE_TO_CHANGE = (  # when a run is continued
    "output",
    "data.cache",
    "data.workers",
    "data.root",
    "evaluation.backend",
    "evaluation.iou",
    "evaluation.max_detections",
    "evaluation.score",
    "train.save_every_minutes",
    "train.save_every_steps",
    "train.trackers",
)
_FOUND_OUT = ("data.format", "data.train", "data.val", "data.train_images", "data.val_images")
"""What a recipe may leave open, and a run writes down as it found it."""


def check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    if not folder.name:
        raise ConfigError(f"--output {str(folder)!r} is no folder of a run; name one below it")
    holds_run = has_checkpoint(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is a file; name a folder")
    if resume and not holds_run and not _begun(folder):
        raise ConfigError(f"--resume: {folder} holds no run; leave --resume out to start one")
    if holds_run and not (resume or overwrite):
        raise ConfigError(
            f"{folder} holds a run already: --resume continues it, --output names another "
            "folder, --overwrite deletes it"
        )


def has_checkpoint(folder: Path) -> bool:
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def _begun(folder: Path) -> bool:
    """Whether a run was killed here before its first checkpoint: it starts again then."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {"nothing"}
    return {_BESIDE.sub("", name) for name in found} <= {"", *_BEFORE_THE_FIRST_CHECKPOINT}


def note_failure(folder: Path, why: str) -> None:
    """Keep it, whatever becomes of the run later."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FAILED).open("a") as file:
        file.write(f"{why}\n")


def clear_partial(folder: Path) -> None:
    """Delete what a process that was killed had begun to write there."""
    for path in folder.glob("*.partial"):
        path.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Or not at all, if the process is killed meanwhile."""
    with whole_file(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def clear_results(folder: Path) -> None:
    """Delete what is said of a model, before another one is trained or evaluated there."""
    for name in ("results.json", "detections.npz", "features_val.npz", "measured.json"):
        (folder / name).unlink(missing_ok=True)


def clear_folder(folder: Path) -> None:
    """Delete what a run writes, and nothing else that a person may keep there."""
    for pattern in _WRITTEN:
        for path in folder.glob(pattern):
            path.unlink()
    for name in _OF_TRACKERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def check_same_run(
    config: Config,
    classes: list[str],
    checkpoint: Mapping[str, Any],
    images_a_step: int | None = None,
) -> None:
    """Refuse to go on with a run whose recipe or classes were others; the key is named."""
    other = config_from_dict(checkpoint["config"])
    # How a step's images are cut does not matter if they are as many, which is looked at below.
    free = () if images_a_step is None else ("train.batch_size", "train.accumulate")
    check_same_recipe(config, other, free)
    if checkpoint["classes"] != classes:
        raise ConfigError(
            f"the run was started with the classes {checkpoint['classes']}, "
            f"the data has {classes} now"
        )
    if images_a_step not in (None, checkpoint.get("images_a_step", images_a_step)):
        raise ConfigError(
            f"a step would take {images_a_step} images, but the run was started with "
            f"{checkpoint['images_a_step']}; processes x train.accumulate x train.batch_size has "
            "to be what it was"
        )


def check_same_recipe(config: Config, other: Config, free: Collection[str] = ()) -> None:
    """Refuse to go on with the run of ``other``, unless it differs in what is free to change."""
    for key, new, old in differences(config, other):
        left_open = key in _FOUND_OUT and new in (None, "auto")
        if key not in (*_FREE_TO_CHANGE, *free) and not left_open:
            raise ConfigError(
                f"{key} is {new!r}, but the run was started with {old!r}; "
                "give the same value, or start another run with --output"
            )
