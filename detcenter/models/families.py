"""Which of the seams a detector belongs to."""

from types import ModuleType

from torch import nn

from detcenter.models import rcnn, retinanet, ssd
from detcenter.models.terms import BoxTerms

_SEAMS = (ssd, retinanet, rcnn)


def seam_of(model: nn.Module) -> ModuleType:
    """The module of this package that knows ``model``'s family: ssd, retinanet or rcnn.

    Raises:
        TypeError: if none does.
    """
    for seam in _SEAMS:
        if seam.owns(model):
            return seam
    raise TypeError(
        "supported are torchvision's SSD, RetinaNet, FCOS, Faster R-CNN, Mask R-CNN and "
        f"Keypoint R-CNN, not {type(model).__name__}; a model that is wrapped in DDP or compiled "
        "is given before wrapping"
    )


def terms_of(model: nn.Module) -> BoxTerms:
    """The terms that are attached to ``model``; none is an empty :class:`BoxTerms`."""
    terms: BoxTerms = getattr(seam_of(model).host(model), "box_terms", BoxTerms())
    return terms
