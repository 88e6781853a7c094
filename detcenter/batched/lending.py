"""torchvision's detectors made fast: their parts are lent methods that do a whole batch at once."""

from collections.abc import Iterator
from typing import Any, TypeVar

from torch import nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from detcenter.adoption import Adopted, adopt, keeps, release
from detcenter.batched.anchors import KeptAnchors, KeptDefaultBoxes
from detcenter.batched.coding import BoxCoding
from detcenter.batched.dense import FCOSLosses, RetinaNetLosses
from detcenter.batched.detections import (
    FCOSDetections,
    RetinaNetDetections,
    RoIDetections,
    SSDDetections,
)
from detcenter.batched.lent import Batched
from detcenter.batched.matching import FCOSMatching, RetinaNetMatching, RoIMatching, RPNMatching
from detcenter.batched.pooling import Pooling
from detcenter.batched.proposals import Proposals
from detcenter.batched.roi_losses import RoILosses
from detcenter.batched.sampling import RoISampling, RPNSampling, Sampling
from detcenter.batched.ssd import SSDLosses, SSDStep
from detcenter.batched.steps import FCOSStep, RCNNStep, RetinaNetStep
from detcenter.batched.transform import BatchedTransform

Model = TypeVar("Model", bound=nn.Module)
_LENT: list[tuple[type[Any], type[Adopted]]] = [
    (SSD, SSDStep),
    (SSD, SSDLosses),
    (SSD, SSDDetections),
    (RetinaNet, RetinaNetStep),
    (RetinaNet, RetinaNetDetections),
    (RetinaNet, RetinaNetMatching),
    (RetinaNetHead, RetinaNetLosses),
    (FCOS, FCOSStep),
    (FCOS, FCOSDetections),
    (FCOS, FCOSMatching),
    (FCOSHead, FCOSLosses),
    (GeneralizedRCNN, RCNNStep),
    (RegionProposalNetwork, Proposals),
    (RegionProposalNetwork, RPNMatching),
    (RegionProposalNetwork, RPNSampling),
    (RoIHeads, RoIDetections),
    (RoIHeads, RoIMatching),
    (RoIHeads, RoISampling),
    (RoIHeads, RoILosses),
    (BalancedPositiveNegativeSampler, Sampling),
    (MultiScaleRoIAlign, Pooling),
    (BoxCoder, BoxCoding),
    (GeneralizedRCNNTransform, BatchedTransform),
    (DefaultBoxGenerator, KeptDefaultBoxes),
    (AnchorGenerator, KeptAnchors),
]


def fast(model: Model, on: bool = True) -> Model:
    """Make one of torchvision's detectors fast, with the same results; in place.

    Images are prepared, boxes matched and sampled, losses computed and detections post-processed
    for all images and classes at once, where torchvision goes through them one by one and, on a
    GPU, waits for it each time. Detections, matches and proposals are the same, but for which of
    several boxes of equal scores comes first; losses and gradients are the same to rounding.
    Methods, matchers and samplers of your own stay as they are: only what is torchvision's is done
    otherwise. Weights and ``state_dict`` keys do not change, nor do random numbers on a CPU; on a
    GPU the R-CNNs draw other samples from the same seed, of the same distribution.
    :func:`detcenter.attach` makes all but the R-CNNs fast by itself.

    Args:
        model: an SSD, RetinaNet, FCOS, Faster R-CNN, Mask R-CNN or Keypoint R-CNN of torchvision,
            or of a subclass; attached to or not.
        on: False makes it torchvision's own again.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: if ``model`` is no detector that is known here.
    """
    if not isinstance(model, SSD | RetinaNet | FCOS | GeneralizedRCNN):
        raise TypeError(
            "supported are torchvision's SSD, RetinaNet, FCOS and R-CNNs, not "
            f"{type(model).__name__}; a model that is wrapped or compiled is given before wrapping"
        )
    if on:
        adopt(model, Asked, below=True)
    else:
        release(model, Asked)
    return lend(model, on)


class Asked(Batched):
    """Lent to a model that somebody asked to be fast, which it stays when terms are detached."""


def lend(model: Model, on: bool) -> Model:
    """As :func:`fast`, but nobody asked for it."""
    for part, own, mixin in _parts(model):
        if not on:
            release(part, mixin)
        elif _unchanged(part, own, mixin):
            adopt(part, mixin, below=True)
    return model


def _parts(model: nn.Module) -> Iterator[tuple[Any, type[Any], type[Adopted]]]:
    """What is lent to which part, and the class of torchvision's that it stands in for."""
    parts: list[Any] = list(model.modules())
    for name in ("box_coder", "fg_bg_sampler"):
        parts += [getattr(part, name) for part in parts if hasattr(part, name)]
    for part in parts:
        for own, mixin in _LENT:
            if isinstance(part, own):
                yield part, own, mixin


def _unchanged(part: Any, own: type[Any], mixin: type[Adopted]) -> bool:
    """Whether all methods that ``mixin`` stands in for are torchvision's, not a person's."""
    names = [
        name
        for of in mixin.__mro__
        for name in vars(of)
        if hasattr(own, name) and (name[0] != "_" or name == "__call__")
    ]
    return keeps(part, own, *names)
