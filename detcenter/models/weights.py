"""Weights from files, from torchvision's downloads, or (rebuilding a checkpoint) from nowhere."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple
from unittest.mock import patch
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from detcenter.errors import PersonsError
from detcenter.tensor_files import TensorFileError, load_tensors, state_dict_in

logger = logging.getLogger("detcenter")

_OF_THE_RECIPE = (".step", ".l2_softmax.radius", "_extra_state")  # the last: numbers of draws


class WeightsError(PersonsError, ValueError):
    """Weights that cannot be had, or that are of another model."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file: a plain one, or the one in a checkpoint of any training script.

    See :func:`detcenter.tensor_files.state_dict_in` for where it may lie, and for what wrappers of
    the model put before its names.

    Raises:
        WeightsError: if the file is missing, unreadable, or holds no state dict.
    """
    try:
        state = state_dict_in(load_tensors(path))
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    except TensorFileError as error:
        raise WeightsError(f"{path}: not a weights file that torch can load ({error})") from None
    if state is None:
        raise WeightsError(
            f"{path}: holds no state dict, nor a checkpoint with one as 'model' or 'state_dict'"
        )
    return state


class Matched(NamedTuple):
    """What became of two sets of keys: a file's and a model's."""

    loaded: list[str]
    left_out: dict[str, str]
    """of the file, with the reason"""
    new: list[str]
    """of the model, not in the file"""

    def table(self) -> str:
        """How many keys of each part, and which were not loaded."""
        kinds = {"loaded": self.loaded, "left out": list(self.left_out), "new": self.new}
        counts = {kind: Counter(map(_part, keys)) for kind, keys in kinds.items()}
        parts = sorted(set().union(*counts.values()))
        width = max(map(len, [*parts, "part"]))
        lines = [f"{'part':{width}}  {'loaded':>8}{'left out':>10}{'new':>6}"]
        for part in parts:
            row = [counts[kind][part] for kind in kinds]
            lines.append(f"{part:{width}}  {row[0]:8}{row[1]:10}{row[2]:6}")
        lines += _listed("left out", [f"{k} ({why})" for k, why in self.left_out.items()])
        return "\n".join(lines + _listed("new", self.new))


def load_matching(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load all of ``state`` that has a counterpart of the same shape in ``model``; log the rest.

    Raises:
        WeightsError: if not one key fits.
    """
    matched = _load_matching(model, state, source)
    if matched.new:
        shown = ", ".join(matched.new[:4]) + (", …" if len(matched.new) > 4 else "")
        logger.warning(
            "%s: %d keys loaded, %d start new: %s",
            source,
            len(matched.loaded),
            len(matched.new),
            shown,
        )


def _load_matching(model: nn.Module, state: Mapping[str, Tensor], source: str) -> Matched:
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise WeightsError(f"{source}: weights of another model, none of its {len(state)} keys fit")
    model.load_state_dict(fitting, strict=False)
    left_out = {
        k: f"{list(v.shape)}, the model has {list(own[k].shape)}"
        if k in own
        else "not in the model"
        for k, v in state.items()
        if k not in fitting and not k.endswith("num_batches_tracked")
    }
    # Counters of batches are no weights; a frozen batch norm has none.
    new = sorted(k for k in own if k not in fitting and not k.endswith("num_batches_tracked"))
    return Matched(sorted(fitting), left_out, new)


def initialize(model: nn.Module, path: str) -> Matched:
    """Load what fits from a checkpoint of detcenter or torchvision, to train on from there.

    The ramps of terms start anew, so do the draws of losses that draw, and a fixed radius of
    L2Softmax is the recipe's.

    Raises:
        WeightsError: for a file that cannot be read, or of which nothing fits.
    """
    state = read_weights(path)
    # Until version 0.2 the terms lay below the head, or the R-CNNs' heads.
    old = r"^(roi_heads|head)\.box_terms\."
    state = {re.sub(old, "box_terms.", key): value for key, value in state.items()}
    trained = {k for k, _ in model.named_parameters()}
    own = {k for k in model.state_dict().keys() - trained if k.endswith(_OF_THE_RECIPE)}
    kept = {k: v for k, v in state.items() if k not in own}
    return _load_matching(model, kept, path)


def _part(key: str) -> str:
    return ".".join(key.split(".")[:2])


def _listed(title: str, names: list[str], most: int = 8) -> list[str]:
    more = [f"  … and {len(names) - most} more"] if len(names) > most else []
    return [f"{title}:", *(f"  {name}" for name in names[:most]), *more] if names else []


def is_file(weights: str) -> bool:
    """Whether ``weights`` names a file rather than one of torchvision's weight sets."""
    return (
        "/" in weights
        or weights.endswith((".pth", ".pt", ".safetensors"))
        or Path(weights).is_file()
    )


def weight_set(weights: str, sets: type[WeightsEnum], model_name: str) -> WeightsEnum:
    """The torchvision weight set ``weights`` (``DEFAULT``, ``COCO_V1``, …) of a model."""
    if weights not in sets.__members__:
        raise WeightsError(
            f"weights {weights!r} of {model_name}: torchvision has {', '.join(sets.__members__)}; "
            "a path to a file is taken too, and null trains from nothing"
        )
    return sets[weights]


def place_in_cache(weights: WeightsEnum) -> Path:
    """The file that torchvision downloads a weight set to, and looks for before it does."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


@contextmanager
def downloads_explained(
    model_name: str, weights: WeightsEnum, key: Literal["weights", "weights_backbone"]
) -> Iterator[None]:
    """Turn a failed download into a :class:`WeightsError` that names the ways out, the best first.

    Args:
        key: which asks for them, of a recipe and of :func:`build_model`.
    """
    try:
        yield
    except (URLError, ConnectionError, TimeoutError) as error:
        option = key.replace("_", "-")
        raise WeightsError(
            f"the weights of {model_name} could not be downloaded ({error}); give a file of them "
            f"as {key} (--{option} FILE), or lay {weights.url} into "
            f"{place_in_cache(weights).parent} by hand; only if neither can be had train without, "
            f"{key}: null, which takes many more epochs and with few images ends far lower"
        ) from None


@contextmanager
def builders_load(state: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Inside, torchvision's builders load ``state`` where they would download; None: nothing.

    The builders choose parts of the architecture by whether weights are asked for (SSDlite its
    tail, Faster R-CNN its batch norm), so a model is rebuilt by the same call without the loading.
    """
    with ExitStack() as stack:
        stack.enter_context(patch.object(WeightsEnum, "get_state_dict", lambda *_, **__: state))
        if state is None:
            stack.enter_context(patch.object(nn.Module, "load_state_dict", lambda *_, **__: None))
        yield
