"""Checkpoints: plain containers of tensors, numbers and strings, written whole or not at all."""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from detcenter.errors import PersonsError
from detcenter.tensor_files import TensorFileError, bare_names, load_tensors
from detcenter.training.safetensors_file import SafetensorsError, load_safetensors

WEIGHTS = "model.safetensors"
"""in a folder that `detcenter export --to safetensors` writes"""

_KEYS = {"model", "builder", "classes", "config"}


class CheckpointError(PersonsError, ValueError):
    """A checkpoint that is missing, damaged, not one of detcenter, or of an older version."""


def save_checkpoint(
    path: Path,
    previous: Path | None = None,
    before_replace: Callable[[], None] | None = None,
    **entries: Any,
) -> None:
    """Write ``entries`` to ``path``; what was there before stays until the new file is whole.

    ``model`` (a state dict), ``builder`` (the arguments it was built with), ``classes`` (names
    from label 1) and ``config`` are needed to load it again.

    Args:
        previous: where to keep what was in ``path`` before.
        before_replace: called when all is written, before ``path`` changes. If it raises, ``path``
            stays as it was.

    Raises:
        OSError: if the disk is full, say; ``path`` is then as it was.
    """
    missing = _KEYS - entries.keys()
    if missing:
        raise TypeError(f"a checkpoint needs the entries {sorted(missing)}")
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            _write(entries, file, path)
        if before_replace is not None:
            before_replace()
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if previous is not None and path.exists():
        path.replace(previous)
    partial.replace(path)
    _sync_folder(path.parent)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, executing nothing that it may contain.

    Its weights have the names that the bare model gives them, also if they were saved of a model in
    DistributedDataParallel or torch.compile.

    Args:
        path: of the file, or of a folder of ``detcenter export --to safetensors`` or of a run,
            whose best checkpoint is read.

    Raises:
        CheckpointError: in one line, what is wrong with the file; every byte is checked.
    """
    if path.is_dir():
        inside = [path / name for name in (WEIGHTS, "best.pth")]
        path = next((file for file in inside if file.exists()), path)
    try:
        of_others = path.suffix == ".safetensors"
        checkpoint = load_safetensors(path) if of_others else load_tensors(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except (TensorFileError, SafetensorsError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error})") from None
    weights: Any = checkpoint.get("model", {}) if isinstance(checkpoint, dict) else None
    missing = _KEYS - set(checkpoint) if isinstance(weights, Mapping) else _KEYS
    if missing:
        raise CheckpointError(
            f"{path}: not a detcenter checkpoint, it has no {', '.join(sorted(missing))}; "
            "plain torchvision weights go into init_from of a recipe"
        )
    return checkpoint | {"model": bare_names(weights)}


def load_newest(path: Path, previous: Path) -> tuple[dict[str, Any], str | None]:
    """The checkpoint in ``path``, or if that is damaged or gone the one before it.

    Returns:
        It, and what was wrong with ``path`` if the one before had to do.

    Raises:
        CheckpointError: if neither can be read.
    """
    try:
        return load_checkpoint(path), None
    except CheckpointError as error:
        if not previous.exists():
            raise
        return load_checkpoint(previous), f"{error}; going on from {previous.name}"


def _write(entries: Mapping[str, Any], file: Any, path: Path) -> None:
    try:
        torch.save(dict(entries), file)
        file.flush()
        os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        reason = _reason(error, file)
        raise OSError(
            f"{path} could not be written ({reason}); the one before is intact"
        ) from error


def _reason(error: Exception, file: Any) -> str:
    """Why writing failed: torch's writer does not say, the system does when it is asked again."""
    try:
        file.write(bytes(2**20))
        file.flush()
    except OSError as system:
        return str(system.strerror)
    return str(error).splitlines()[0]


def _sync_folder(folder: Path) -> None:
    """Make the new names last, where a folder can be opened (not on Windows)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
