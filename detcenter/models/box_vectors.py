"""A vector of its own for each box of an SSD, and one table of classes for all of them."""

from typing import Any, TypeVar

from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD, SSDScoringHead

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
    boxes, as an R-CNN's does. The exchanged layers start anew: set this before loading a trained
    state dict, making the optimizer, wrapping or compiling. Clip gradients (a norm of 10 does):
    where the learning rate is high, a product of two trained factors may grow without bound. What
    was measured is in docs/terms.md.

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
        ValueError: if ``dim`` is below 1, or :func:`set_l2_softmax` was called before, whose
            layers would be lost.
    """
    if dim < 1:
        raise ValueError(f"vectors of boxes have at least 1 dimension, not {dim}")
    if not isinstance(model, SSD):
        raise TypeError(f"vectors of boxes are for SSDs, not for {type(model).__name__}")
    head: Any = model.head
    found: Any = getattr(head, "classification_head", None)
    vectors: Any = found.vectors if isinstance(found, BoxVectorHead) else found
    if getattr(type(vectors), "forward", None) is not SSDScoringHead.forward:
        raise TypeError(f"the classification head of this {type(model).__name__} is of your own")
    if any(hasattr(layer, "l2_softmax") for layer in found.modules()):
        raise ValueError("set_l2_softmax comes after set_box_vectors, whose vectors it scales")
    num_classes = vectors.num_columns if vectors is found else found.classify.out_features
    for level, layers in enumerate(vectors.module_list):
        *_, (name, last) = ((n, m) for n, m in layers.named_modules() if isinstance(m, nn.Conv2d))
        new = _widened(last, last.out_channels // vectors.num_columns * dim)
        if name:  # the last of several layers, as in SSDlite
            layers.set_submodule(name, new)
        else:
            vectors.module_list[level] = new
    vectors.num_columns = dim
    like = next(vectors.parameters())
    classify = nn.Linear(dim, num_classes, bias=False, device=like.device, dtype=like.dtype)
    nn.init.orthogonal_(classify.weight)
    head.classification_head = BoxVectorHead(vectors, classify)
    return model


def _widened(layer: Any, channels: int) -> nn.Conv2d:
    """A new convolution like ``layer``, with another number of outputs."""
    shape = layer.in_channels, channels, layer.kernel_size, layer.stride, layer.padding
    like = layer.weight
    return nn.Conv2d(*shape, groups=layer.groups, device=like.device, dtype=like.dtype)
