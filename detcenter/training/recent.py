"""What the losses on box features were lately called with."""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Pairs = deque[tuple[Tensor, Tensor]]


class RecentFeatures:
    """Keeps the features and labels that each of ``losses`` is called with, until it is closed.

    Of a pass over the data these are close to what the weights at its end would give.

    Args:
        losses: modules called as ``loss(features [P, D], labels [P])``.
        most: as many calls are kept as make up so many features.

    Attributes:
        pairs: one deque of (features [P, D], labels [P]) a loss, without gradients, the latest
            last.
    """

    def __init__(self, losses: Sequence[nn.Module], most: int = 1000) -> None:
        self.pairs: list[Pairs] = [deque() for _ in losses]
        pairs = zip(losses, self.pairs, strict=True)
        self._hooks = [
            loss.register_forward_hook(partial(_keep, pair, most)) for loss, pair in pairs
        ]

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> list[list[tuple[Tensor, Tensor]]]:
        return [list(pair) for pair in self.pairs]

    def load_state_dict(
        self, state: Sequence[Sequence[tuple[Tensor, Tensor]]], device: torch.device
    ) -> None:
        """Go on from ``state`` on ``device``, where the features to come are."""
        for pair, kept in zip(self.pairs, state, strict=True):
            pair.extend((features.to(device), labels.to(device)) for features, labels in kept)


def _keep(kept: Pairs, most: int, loss: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    kept.append((inputs[0].detach(), inputs[1]))
    while sum(len(y) for _, y in kept) - len(kept[0][1]) >= most:
        kept.popleft()
