"""Losses of pytorch-metric-learning by name (an optional extra of the package)."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn


class MinedLoss(nn.Module):
    """A loss of pytorch-metric-learning on the pairs or triplets that a miner of it picks."""

    def __init__(self, loss: nn.Module, miner: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = self.loss(features, labels, self.miner(features, labels))
        return value


def metric_loss(
    name: str,
    num_classes: int,
    feature_dim: int,
    args: Mapping[str, Any] | None = None,
    miner: str | None = None,
    miner_args: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A loss of pytorch-metric-learning that is called as ``loss(features, labels)``.

    Args:
        name: of a class in ``pytorch_metric_learning.losses``, ``SupConLoss`` say.
        num_classes, feature_dim: what losses with a vector a class (ArcFace, ProxyAnchor, …) are
            sized by, unless ``args`` says otherwise; ``num_classes`` counts background, whose
            vector is not used.
        args: of its constructor.
        miner, miner_args: likewise from ``pytorch_metric_learning.miners``.

    Raises:
        ImportError: without pytorch-metric-learning.
        ValueError: for a name that is not there, arguments that do not fit, and a loss that does
            not work on features and labels alone.
    """
    losses, miners = _library()
    kind = _named(losses, name, ("CenterLoss", "RankHardLoss"))
    sizes = {
        "num_classes": num_classes,
        "embedding_size": feature_dim,
        "descriptors_dim": feature_dim,
    }
    taken = {k: v for k, v in sizes.items() if _takes(kind, k)}
    loss = _made(kind, taken | dict(args or {}))
    if miner is not None:
        loss = MinedLoss(loss, _made(_named(miners, miner), dict(miner_args or {})))
    elif miner_args:
        raise ValueError(f"miner_args {dict(miner_args)} without a miner")
    _try(loss, name, num_classes, feature_dim)
    return loss


def _library() -> tuple[ModuleType, ModuleType]:
    try:
        from pytorch_metric_learning import losses, miners
    except ImportError:
        raise ImportError(
            "losses other than CenterLoss and RankHardLoss are those of pytorch-metric-learning, "
            "which is missing: pip install 'detcenter[metric]'"
        ) from None
    return losses, miners


def _named(module: ModuleType, name: str, besides: Sequence[str] = ()) -> type[nn.Module]:
    """Of the library; ``besides`` are names that may have been meant too."""
    kinds: dict[str, type[nn.Module]] = {
        key: kind
        for key, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, nn.Module)
    }
    if name not in kinds:
        nearest = get_close_matches(name, [*besides, *kinds], n=1, cutoff=0.0)[0]
        raise ValueError(f"{module.__name__} has no {name!r}; the nearest is {nearest!r}")
    return kinds[name]


def _takes(kind: type, argument: str) -> bool:
    """Whether a constructor names the argument; some pass it on to that of a base class."""
    return any(
        argument in inspect.signature(base.__init__).parameters  # type: ignore[misc]
        for base in kind.__mro__[:-1]
    )


def _made(kind: type[nn.Module], args: dict[str, Any]) -> nn.Module:
    try:
        # The caller's random numbers stay what they would have been without the loss.
        with torch.random.fork_rng(devices=[]):
            return kind(**args)
    except Exception as error:  # whatever the library's constructors raise
        raise ValueError(f"{kind.__name__}({_shown(args)}): {_one_line(error)}") from error


def _try(loss: nn.Module, name: str, num_classes: int, feature_dim: int) -> None:
    """A call on a few features, so that what cannot work says so before training."""
    labels = torch.tensor([1, 1, 1, 2, 2, 3]).clamp(max=num_classes - 1)
    features = torch.rand(6, feature_dim, generator=torch.Generator().manual_seed(0))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            value = copy.deepcopy(loss)(features, labels)  # some keep what they saw
    except Exception as error:
        raise ValueError(
            f"{name} does not work on features and labels alone: {_one_line(error)}"
        ) from error
    if not torch.is_tensor(value) or value.dim() > 0:
        raise ValueError(f"{name} returns no scalar")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _shown(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in args.items())
