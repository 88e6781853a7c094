"""torchvision's detectors made fast: their parts are lent methods that do a whole batch at once."""

from collections.abc import Iterator
from typing import Any, TypeVar

from torch import nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detcenter.adoption import Adopted, adopt, keeps, release
from detcenter.batched.anchors import KeptAnchors, KeptDefaultBoxes
from detcenter.batched.coding import BoxCoding
from detcenter.batched.detections import (
    FCOSDetections,
    RetinaNetDetections,
    RoIDetections,
    SSDDetections,
)
from detcenter.batched.ssd import SSDLosses, SSDStep
from detcenter.batched.transform import BatchedTransform

Model = TypeVar("Model", bound=nn.Module)
_LENT: list[tuple[type[Any], type[Adopted]]] = [
    (SSD, SSDStep),
    (SSD, SSDLosses),
    (SSD, SSDDetections),
    (RetinaNet, RetinaNetDetections),
    (FCOS, FCOSDetections),
    (RoIHeads, RoIDetections),
    (BoxCoder, BoxCoding),
    (GeneralizedRCNNTransform, BatchedTransform),
    (DefaultBoxGenerator, KeptDefaultBoxes),
    (AnchorGenerator, KeptAnchors),
]


def fast(model: Model, on: bool = True) -> Model:
    """Make one of torchvision's detectors fast, with the same results; in place.

    Images are prepared, an SSD's boxes matched and its losses mined, and detections
    post-processed for all images and classes at once, where torchvision goes through them one by
    one and, on a GPU, waits for it each time. Detections are the same, but for the order of boxes
    of equal scores, and losses but for rounding. Methods of your own stay as they are: only what
    is torchvision's is done otherwise. Weights, ``state_dict`` keys and random numbers do not
    change. :func:`detcenter.attach` makes an SSD fast by itself.

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
    for part, own, mixin in _parts(model):
        if not on:
            release(part, mixin)
        elif _unchanged(part, own, mixin):
            adopt(part, mixin, below=True)
    return model


def is_fast(model: nn.Module) -> bool:
    """Whether :func:`fast` was called, and anything of ``model`` is torchvision's own."""
    return any(isinstance(part, mixin) for part, _, mixin in _parts(model))


def _parts(model: nn.Module) -> Iterator[tuple[Any, type[Any], type[Adopted]]]:
    """What is lent to which part, and the class of torchvision's that it stands in for."""
    parts: list[Any] = list(model.modules())
    parts += [part.box_coder for part in parts if hasattr(part, "box_coder")]
    for part in parts:
        for own, mixin in _LENT:
            if isinstance(part, own):
                yield part, own, mixin


def _unchanged(part: Any, own: type[Any], mixin: type[Adopted]) -> bool:
    """Whether all methods that ``mixin`` stands in for are torchvision's, not a person's."""
    names = [
        name for of in mixin.__mro__ for name in vars(of) if hasattr(own, name) and name[0] != "_"
    ]
    return keeps(part, own, *names)
