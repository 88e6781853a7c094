"""An exponential moving average of a model's weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``model`` whose weights follow its own, to be updated after every step.

    ``average <- d * average + (1 - d) * weights`` with d = min(``decay``, (1 + n) / (10 + n)) after
    n updates, so that the random weights of the start do not linger. Buffers, among them the
    centers and the statistics of batch norm, are copied as they are.

    Args:
        decay: in 0..1; 0.999 averages over the last thousand steps or so.

    Raises:
        ValueError: for another decay.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"the decay of an average lies in 0..1, not {decay}")

    return AveragedModel(model, multi_avg_fn=_Follow(decay))


class _Follow:
    """A class rather than a closure: it can be copied and pickled with the model."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def __call__(self, averages: Any, weights: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        rate = 1 - min(self.decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(list(averages), list(weights), rate)
