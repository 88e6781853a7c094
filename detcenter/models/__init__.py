"""How a loss on box features reaches a torchvision detector; detectors built by name."""

from detcenter.models.attach import attach, detach
from detcenter.models.build import MODEL_NAMES, build_model
from detcenter.models.ssd import set_min_negatives
from detcenter.models.weights import WeightsError, load_matching, read_weights

__all__ = [
    "MODEL_NAMES",
    "WeightsError",
    "attach",
    "build_model",
    "detach",
    "load_matching",
    "read_weights",
    "set_min_negatives",
]
