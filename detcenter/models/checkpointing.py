"""Less memory for more time: stages of a backbone computed again in the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from detcenter.adoption import Adopted, adopt
from detcenter.models.pyramid import PyramidBackbone

Model = TypeVar("Model", bound=nn.Module)


def set_gradient_checkpointing(model: Model) -> Model:
    """Keep of a backbone's stages only what goes into them, in place.

    A stage is an ``nn.Sequential`` of the backbone that lies in no other: ``layer1`` to ``layer4``
    of a ResNet, the blocks of a MobileNet. What is inside is computed again in the backward pass,
    with the same random numbers; batch norm follows its statistics once, as without it. Losses and
    centers lie behind the backbone and see nothing of it. No key of a checkpoint changes.

    Raises:
        ValueError: for a pyramid over a classifier's layers, which has no stages left.
    """
    backbone: Any = model.backbone
    if isinstance(backbone, PyramidBackbone):
        raise ValueError(
            "gradient checkpointing is for torchvision's own detectors (fasterrcnn_resnet50_fpn, "
            "ssd300_vgg16, ...); a pyramid over a classifier has no stages"
        )
    for stage in _outermost(backbone):
        adopt(stage, Recomputed)
    return model


class Recomputed(Adopted):
    """A stage that is computed again in the backward pass."""

    training: bool

    def forward(self, *inputs: Any) -> Any:
        forward: Any = super().forward  # type: ignore[misc]
        if not (self.training and torch.is_grad_enabled()):
            return forward(*inputs)
        contexts = partial(_contexts, self)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts)


def _contexts(
    module: Any,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Of the first pass and of the second."""
    return nullcontext(), _statistics_kept(module)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    norms: list[Any] = [
        m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats
    ]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # normalises as before, and leaves the statistics where they are
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


def _outermost(module: nn.Module) -> Iterator[nn.Sequential]:
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield child
        else:
            yield from _outermost(child)
