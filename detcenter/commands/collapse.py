"""How compact the features of a model's terms are while it trains, so that a collapse is seen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from detcenter.analysis import compactness
from detcenter.losses import CenterLoss
from detcenter.models import terms_of
from detcenter.training import recent_features

_MOST = 1000  # boxes
_NUMBERS = ("within", "between", "ratio", "silhouette")


@contextmanager
def watched(model: nn.Module, classes: Sequence[str]) -> Iterator[dict[str, float]]:
    """Fill the yielded dict, on leaving, with ``<term>/ratio`` and so on of every term.

    Of the features that the terms' losses saw last; see :func:`detcenter.analysis.compactness`.
    Where levels have losses of their own, means weighted by their boxes.
    """
    losses = {name: list(term.losses) for name, term in terms_of(model).terms()}
    numbers: dict[str, float] = {}
    with recent_features(
        [loss for several in losses.values() for loss in several], _MOST
    ) as recent:
        yield numbers
    pairs = iter(recent)
    for name, several in losses.items():
        levels = [_measured(loss, next(pairs), classes) for loss in several]
        numbers |= {f"{name}/{key}": value for key, value in _mean(levels).items()}


def _measured(loss: nn.Module, pairs: Any, classes: Sequence[str]) -> Mapping[str, Any]:
    if not pairs:
        return {"count": 0}
    features, labels = (torch.cat(column)[-_MOST:] for column in zip(*pairs, strict=True))
    if on_unit_sphere(loss):
        features = F.normalize(features, dim=1)
    return compactness(features.cpu().numpy(), labels.cpu().numpy(), classes)


def on_unit_sphere(loss: nn.Module) -> bool:
    """Whether a loss is measured there: all that do not say otherwise look at directions."""
    return not isinstance(loss, CenterLoss) or loss.normalize


def _mean(levels: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What is undefined on all levels is left out."""
    means = {}
    for key in _NUMBERS:
        known = [(level[key], level["count"]) for level in levels if level.get(key) is not None]
        if known:
            means[key] = sum(x * n for x, n in known) / sum(n for _, n in known)
    return means
