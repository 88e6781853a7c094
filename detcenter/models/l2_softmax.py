"""L2-constrained softmax (Ranjan, Castillo and Chellappa, "L2-constrained Softmax Loss for
Discriminative Face Verification", 2017)."""

import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcenter.adoption import Adopted, adopt
from detcenter.models.families import family_of

Model = TypeVar("Model", bound=nn.Module)


class L2Softmax(nn.Module):
    r"""Features scaled to a radius: ``radius * x / |x|`` along dimension 1 (section 4.1).

    What a linear classifier makes of them depends on the angle only: easy examples cannot lower
    the softmax loss by growing, hard ones cannot by shrinking. Too small a radius leaves the
    softmax flat. For C classes and a probability p that the classifier should be able to give,
    the radius is at least (section 4.2, with class weights of unit length, evenly spread)::

        radius > log(p * (C - 2) / (1 - p))

    which is 5.1 for C = 21 and p = 0.9, and 9.1 for C = 91 and p = 0.99.

    Args:
        radius: above 0; the paper finds 16 to 40 good.
        learnt: whether the radius is a parameter that starts at ``radius``.

    Shapes:
        [N, D] or [N, D, H, W] → the same; in a map every position is scaled on its own.
    """

    radius: Tensor

    def __init__(self, radius: float, learnt: bool = False) -> None:
        super().__init__()
        if not 0 < radius < math.inf:
            raise ValueError(f"the radius of L2Softmax is above 0, not {radius}")
        value = torch.tensor(float(radius))
        if learnt:
            self.radius = nn.Parameter(value)
        else:
            self.register_buffer("radius", value)

    def forward(self, features: Tensor) -> Tensor:
        if features.dim() < 2:
            raise ValueError(f"L2Softmax takes [N, D] or [N, D, H, W], not {list(features.shape)}")
        # In float16 a zero vector divided by F.normalize's floor, which rounds to 0, is nan.
        exact = features.to(torch.promote_types(features.dtype, torch.float32))
        return (self.radius * F.normalize(exact, dim=1)).to(features.dtype)


def set_l2_softmax(model: Model, radius: float, learnt: bool = False) -> Model:
    """Put :class:`L2Softmax` before the class logits of a detector, in place.

    It acts on what the classifier reads: the vector of an R-CNN's box, or of an SSD's with
    :func:`set_box_vectors`; else the map of SSD (of SSDlite, RetinaNet and FCOS the last map of the
    classification branch) at every position. The model computes something else with it, in eval
    mode too; checkpoints get the keys ``<classifier>.l2_softmax.radius``, and keep all others. FCOS
    and RetinaNet classify by sigmoids, which the constraint bounds just so. A second call replaces
    the radius.

    Raises:
        TypeError: if ``model`` is no detector that is known here, or its head is of your own.
    """
    classifiers = family_of(model).classifiers(model)
    if not classifiers:
        raise TypeError(
            f"the layer of the class logits cannot be told in this {type(model).__name__}, whose "
            "head is not torchvision's; an R-CNN's box predictor is to have it as cls_score"
        )
    for classifier in classifiers:
        like: Any = classifier.weight
        # Not Sequential(L2Softmax, classifier): that would rename the classifier's weights.
        classifier.l2_softmax = L2Softmax(radius, learnt).to(like.device, like.dtype)
        adopt(classifier, OnSphere, below=True)  # a vote reads the features as they are
    return model


class OnSphere(Adopted):
    """A layer whose input passes through its ``l2_softmax`` first."""

    l2_softmax: L2Softmax

    def forward(self, features: Tensor) -> Tensor:
        classify: Any = super().forward  # type: ignore[misc]
        return classify(self.l2_softmax(features))
