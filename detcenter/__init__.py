"""Center loss for torchvision's object detectors."""

from detcenter.losses import CenterLoss, MultiBoxLoss
from detcenter.models import attach, detach

__all__ = ["CenterLoss", "MultiBoxLoss", "attach", "detach"]
__version__ = "0.1.0"
