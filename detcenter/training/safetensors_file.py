"""Checkpoints without what resuming needs, as safetensors files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from detcenter.whole_file import whole_file

_KEY = "detcenter"
"""of the metadata, what is no tensor, as JSON"""
_PLAIN = ("builder", "classes", "config", "thresholds")
_UNKNOWN = "unknown_scorer."
"""before the names of what an unknown scorer was fitted to"""
_TAUGHT, _ENROLLED = "enrolled.taught.", "enrolled.{}."
"""before those of the taught classes beside enrolled ones, and of these by number"""


class SafetensorsError(ValueError):
    """What is wrong with the file, in one line without its name."""


def save_safetensors(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write the weights of ``checkpoint``, what they are built with, and its unknown scorer.

    The metadata have one key, ``detcenter``, which is JSON: ``builder`` (the arguments of
    :func:`detcenter.models.build_model`), ``classes`` (names from label 1), ``config`` (the
    recipe), ``thresholds`` (by class, the score of the best F1), ``unknown`` (how it scores)
    and ``enrolled`` (the names of such classes).
    """
    plain = {key: checkpoint[key] for key in _PLAIN if key in checkpoint}
    tensors = dict(checkpoint["model"])
    scorer = checkpoint.get("unknown")
    if scorer is not None:
        plain["unknown"] = {"by": scorer["by"], "threshold": scorer["threshold"]}
        tensors |= {_UNKNOWN + name: x for name, x in scorer["fitted"].items()}
    enrolled = checkpoint.get("enrolled")
    if enrolled is not None:
        plain["enrolled"] = list(enrolled["enrolled"])
        tensors |= {_TAUGHT + name: x for name, x in enrolled["taught"].items()}
        for number, modes in enumerate(enrolled["enrolled"].values()):
            tensors |= {_ENROLLED.format(number) + name: x for name, x in modes.items()}
    # Two names may stand for one tensor, which the format does not have.
    whole = {name: x.detach().cpu().clone().contiguous() for name, x in tensors.items()}
    with whole_file(path) as file:
        file.write(save(whole, {"format": "pt", _KEY: json.dumps(plain)}))


def load_safetensors(path: Path) -> dict[str, Any]:
    """A checkpoint of :func:`save_safetensors`, on the CPU.

    Raises:
        FileNotFoundError: if there is none.
        SafetensorsError: if it is damaged, or not of detcenter.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise SafetensorsError(f"no safetensors file, or damaged: {error}") from None
    try:
        plain = json.loads(metadata[_KEY])
        scorer, enrolled = plain.pop("unknown", None), plain.pop("enrolled", None)
    except KeyError:
        raise SafetensorsError("its metadata say nothing of detcenter") from None
    except (ValueError, AttributeError):
        raise SafetensorsError("what its metadata say of detcenter cannot be read") from None
    more: dict[str, Any] = {}
    if scorer is not None:
        more["unknown"] = {**scorer, "fitted": _below(_UNKNOWN, tensors)}
    if enrolled is not None:
        modes = {name: _below(_ENROLLED.format(n), tensors) for n, name in enumerate(enrolled)}
        more["enrolled"] = {"taught": _below(_TAUGHT, tensors), "enrolled": modes}
    return {**plain, "model": tensors, **more}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin so, without it, taken out of ``tensors``."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
