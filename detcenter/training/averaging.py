"""An exponential moving average of a model's weights."""

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
    return _Average(model, decay)


class _Average(AveragedModel):
    """Counts its updates on the CPU; torch's own takes the number to the device and back."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        count = int(self.n_averaged)
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(model.parameters())
        if count == 0:
            torch._foreach_copy_(averages, weights)
        else:
            rate = 1 - min(self.decay, (1 + count) / (10 + count))
            torch._foreach_lerp_(averages, weights, rate)
        buffers = list(model.buffers())
        if buffers:
            torch._foreach_copy_(list(self.module.buffers()), buffers)
        self.n_averaged += 1
