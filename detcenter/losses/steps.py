"""When a loss may change what it keeps: the centers, ramps, numbers of draws."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def in_training(module: nn.Module) -> bool:
    """Whether a call of ``module`` is part of training, in which alone its state moves.

    It is in training mode and with gradients enabled, so that a loss on validation images moves
    nothing, whether it is taken under ``no_grad`` or in eval mode. Nor does any process wait for
    another then.
    """
    return module.training and torch.is_grad_enabled()


class Holding(nn.Module):
    """A module whose state moves once a step of the optimizer, by all passes before it."""

    held = False
    """whether more passes of this step follow"""

    def let_go(self) -> None:
        """Forget the passes of this step so far."""

    def __getstate__(self) -> dict[str, Any]:
        # A copy that is made between passes is held by nobody.
        return {key: x for key, x in super().__getstate__().items() if key != "held"}


@contextmanager
def held_centers(model: nn.Module, hold: bool = True) -> Iterator[None]:
    """Inside, training passes of ``model`` only add to what will move the centers.

    For every pass but the last before a step of the optimizer (gradient accumulation): the next
    pass outside moves the centers once, by the sums and counts of all of them. Ramps count that
    as one step. ``hold=False``, for the last pass, holds nothing, so that a loop need not branch.
    An exception inside drops what the step has added so far: it is taken to be passed over.
    """
    modules = [m for m in model.modules() if isinstance(m, Holding)]
    before = [module.held for module in modules]
    for module in modules:
        module.held = module.held or hold
    try:
        yield
    except BaseException:
        for module in modules:
            module.let_go()
        raise
    finally:
        for module, held in zip(modules, before, strict=True):
            module.held = held
