"""A vector of its own for each box of an SSD, and one table of classes for all of them."""

import copy
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torchvision.models.detection.ssd import SSD, SSDScoringHead

from detcenter.adoption import keeps

Model = TypeVar("Model", bound=nn.Module)


class BoxVectorHead(nn.Module):
    """Class logits by a linear layer that all boxes of all maps share, of a vector of each box.

    Shapes:
        maps [N, D_l, H_l, W_l] → logits [N, A, C] of all A boxes
    """

    def __init__(self, vectors: SSDScoringHead, classify: nn.Linear) -> None:
        super().__init__()
        self.vectors = vectors
        self.classify = classify

    def forward(self, maps: list[Tensor]) -> Tensor:
        vectors: Tensor = self.vectors(maps)
        logits: Tensor = self.classify(vectors.flatten(0, 1))
        return logits.view(vectors.shape[0], -1, logits.shape[1])


def set_box_vectors(model: Model, dim: int = 64) -> Model:
    """Let an SSD classify a vector of each box, with one linear layer for all its maps; in place.

    torchvision's SSD has a convolution for each map that gives the class logits of all boxes at a
    cell, so that each shape of box, on each map, learns every class anew. Here these convolutions
    give ``dim`` numbers for each box instead, and one linear layer without bias classifies all
    boxes, as an R-CNN's does. The exchanged layers start anew: call this first, then
    :func:`set_l2_softmax` if you want it, and before loading a trained state dict, making the
    optimizer, wrapping or compiling. Clip gradients in training, since a product of two trained
    factors may grow without bound while the learning rate is high. What was measured is in
    docs/terms.md.

    Checkpoints have ``head.classification_head.vectors.module_list`` and
    ``head.classification_head.classify.weight`` in place of torchvision's
    ``head.classification_head.module_list``. A second call starts anew with its own ``dim``.

    Args:
        model: an SSD or SSDlite of torchvision, or of a subclass, with torchvision's head.
        dim: of the vectors, 1 or more.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: if ``model`` is no SSD, or its classification head is of your own.
        ValueError: if ``dim`` is no number above 0, the model is sharded, or it has an
            :func:`set_l2_softmax`, whose layers would be lost.
    """
    if not isinstance(dim, int) or dim < 1:
        raise ValueError(f"vectors of boxes have 1 dimension or more, not {dim!r}")
    if not isinstance(model, SSD):
        raise TypeError(
            f"vectors of boxes are for SSDs, not for {type(model).__name__}; a model that is "
            "wrapped in DDP or compiled is given before wrapping"
        )
    if isinstance(model, FSDPModule):
        raise ValueError("this model is sharded: set the vectors of boxes before fully_shard")
    head: Any = model.head
    found: Any = getattr(head, "classification_head", None)
    old: Any = found.vectors if isinstance(found, BoxVectorHead) else found
    convolutions = [_convolutions(level) for level in getattr(old, "module_list", ())]
    own = isinstance(old, SSDScoringHead) and all(convolutions)
    if not own or not keeps(old, SSDScoringHead, "forward", "_get_result_from_module_list"):
        raise TypeError(f"the classification head of this {type(model).__name__} is of your own")
    if any(hasattr(layer, "l2_softmax") for layer in found.modules()):
        raise ValueError("set_l2_softmax comes after set_box_vectors, whose vectors it scales")
    like = next(old.parameters())
    classes = found.num_columns if old is found else found.classify.out_features
    classify = nn.Linear(dim, classes, bias=False)
    nn.init.orthogonal_(classify.weight)
    levels = nn.ModuleList(
        _with_channels(level, dim / old.num_columns) for level in old.module_list
    )
    made = BoxVectorHead(SSDScoringHead(levels, dim), classify)
    head.classification_head = made.to(like.device, like.dtype).train(model.training)
    return model


def _convolutions(level: nn.Module) -> list[tuple[str, Any]]:
    return [(name, m) for name, m in level.named_modules() if isinstance(m, nn.Conv2d)]


def _with_channels(level: nn.Module, times: float) -> nn.Module:
    """A copy whose last convolution is a new one, of so many times the channels."""
    *_, (name, last) = _convolutions(level)
    new = nn.Conv2d(
        last.in_channels,
        round(last.out_channels * times),
        last.kernel_size,
        last.stride,
        last.padding,
        last.dilation,
        last.groups,
        last.bias is not None,
        last.padding_mode,
    )
    if not name:  # there is nothing else, unlike in SSDlite
        return new
    copied = copy.deepcopy(level)
    copied.set_submodule(name, new)
    return copied
