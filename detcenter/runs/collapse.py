"""How compact the features of a model's terms are while it trains, so that a collapse is seen."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from detcenter.analysis import compactness
from detcenter.losses import CenterLoss
from detcenter.models import terms_of
from detcenter.training import RecentFeatures

_MOST = 1000  # boxes
_NUMBERS = ("within", "between", "ratio", "silhouette")


class Watch(RecentFeatures):
    """The features that the losses of a model's terms saw last, and how compact they are."""

    def __init__(self, model: nn.Module) -> None:
        self._losses = {name: list(term.losses) for name, term in terms_of(model).terms()}
        super().__init__([loss for several in self._losses.values() for loss in several], _MOST)

    def numbers(self, classes: Sequence[str]) -> dict[str, float]:
        """``<term>/ratio`` and so on of every term; see :func:`detcenter.analysis.compactness`.

        Where levels have losses of their own, means weighted by their boxes.
        """
        numbers: dict[str, float] = {}
        pairs = iter(self.pairs)
        for name, several in self._losses.items():
            levels = [_measured(loss, next(pairs), classes) for loss in several]
            numbers |= {f"{name}/{key}": value for key, value in _mean(levels).items()}
        return numbers


def _measured(loss: nn.Module, pairs: Any, classes: Sequence[str]) -> Mapping[str, Any]:
    if not pairs:
        return {"count": 0}
    features, labels = (torch.cat(column)[-_MOST:] for column in zip(*pairs, strict=True))
    sound = features.isfinite().all(1)  # a step that was passed over for its loss left others
    features, labels = features[sound], labels[sound]
    if len(labels) == 0:
        return {"count": 0}
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
