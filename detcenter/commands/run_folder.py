"""The folder of a run: whether it may be written to, and what of it a run deletes."""

import shutil
from pathlib import Path

from detcenter.errors import ConfigError

_WRITTEN = (
    "*.pth",
    "*.partial",
    "config.yaml",
    "metrics.csv",
    "results.json",
    "detections.npz",
    "detections.png",
    "measured.json",
)


def check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    if not folder.name:
        raise ConfigError(f"--output {str(folder)!r} is no folder of a run; name one below it")
    holds_run = (folder / "last.pth").exists()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is a file; name a folder")
    if resume and not holds_run:
        raise ConfigError(f"--resume: {folder} holds no last.pth; leave --resume out to start")
    if holds_run and not (resume or overwrite):
        raise ConfigError(
            f"{folder} holds a run already: --resume continues it, --output names another "
            "folder, --overwrite deletes it"
        )


def clear_results(folder: Path) -> None:
    """Delete what is said of a model, before another one is trained or evaluated there."""
    for name in ("results.json", "detections.npz", "measured.json"):
        (folder / name).unlink(missing_ok=True)


def clear_folder(folder: Path) -> None:
    """Delete what a run writes, and nothing else that a person may keep there."""
    for pattern in _WRITTEN:
        for path in folder.glob(pattern):
            path.unlink()
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
