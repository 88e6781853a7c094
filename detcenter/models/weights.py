"""Weights from files, from torchvision's downloads, or (rebuilding a checkpoint) from nowhere."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

logger = logging.getLogger("detcenter")


class WeightsError(ValueError):
    """Weights that cannot be had, or that are of another model."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file: a plain one, or the ``model`` entry of a checkpoint.

    Raises:
        WeightsError: if the file is missing, unreadable, or holds no state dict.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file") from None
    except Exception as error:  # torch.load raises whatever the damage leads to
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else "empty"
        raise WeightsError(f"{path}: not a weights file that torch can load ({reason})") from None
    if isinstance(state, dict) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping) or not all(torch.is_tensor(x) for x in state.values()):
        raise WeightsError(f"{path}: holds no state dict, nor a checkpoint with a 'model' entry")
    return dict(state)


def load_matching(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load all of ``state`` that has a counterpart of the same shape in ``model``; log the rest.

    Raises:
        WeightsError: if not one key fits.
    """
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise WeightsError(f"{source}: weights of another model, none of its {len(state)} keys fit")
    model.load_state_dict(fitting, strict=False)
    # Counters of batches are no weights; a frozen batch norm has none.
    new = sorted(k for k in own if k not in fitting and not k.endswith("num_batches_tracked"))
    if new:
        shown = ", ".join(new[:4]) + (", …" if len(new) > 4 else "")
        logger.warning(
            "%s: %d keys loaded, %d start new: %s", source, len(fitting), len(new), shown
        )


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
            "null trains from scratch, and a path to a file is taken too"
        )
    return sets[weights]


@contextmanager
def downloads_explained(model_name: str) -> Iterator[None]:
    """Turn a failed download into a :class:`WeightsError` that names the ways out."""
    try:
        yield
    except (URLError, ConnectionError, TimeoutError) as error:
        raise WeightsError(
            f"the weights of {model_name} could not be downloaded ({error}); "
            "set weights: null or weights_backbone: null to train from scratch, "
            "or give the path of a local file"
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
