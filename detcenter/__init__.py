"""Center loss, and any loss on box features, for torchvision's object detectors."""

from detcenter.losses import CenterLoss, MultiBoxLoss, RankHardLoss, held_centers
from detcenter.models import (
    L2Softmax,
    attach,
    box_features,
    detach,
    detect_with_features,
    set_l2_softmax,
)

__all__ = [
    "CenterLoss",
    "L2Softmax",
    "MultiBoxLoss",
    "RankHardLoss",
    "attach",
    "box_features",
    "detach",
    "detect_with_features",
    "held_centers",
    "set_l2_softmax",
]
__version__ = "0.1.0"
