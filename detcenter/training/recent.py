"""What the losses on box features were lately called with."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

Pairs = deque[tuple[Tensor, Tensor]]


@contextmanager
def recent_features(losses: Sequence[nn.Module], most: int = 1000) -> Iterator[list[Pairs]]:
    """Keep the features and labels that each of ``losses`` is called with inside.

    Yields one deque of (features [P, D], labels [P]) a loss, without gradients, the latest last;
    as many calls as make up ``most`` features. Of a pass over the data these are close to what
    the weights at its end would give.
    """
    kept: list[Pairs] = [deque() for _ in losses]
    pairs = zip(losses, kept, strict=True)
    hooks = [loss.register_forward_hook(partial(_keep, pair, most)) for loss, pair in pairs]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _keep(kept: Pairs, most: int, loss: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    kept.append((inputs[0].detach(), inputs[1]))
    while sum(len(y) for _, y in kept) - len(kept[0][1]) >= most:
        kept.popleft()
