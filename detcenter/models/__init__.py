"""How a loss on box features reaches a torchvision detector; detectors built by name."""

from detcenter.models.attach import attach, detach, embedding_of, feature_sizes
from detcenter.models.attached import enroll, set_losses_over_processes, set_min_negatives
from detcenter.models.box_features import box_features, box_logits, detect_with_features
from detcenter.models.box_vectors import set_box_vectors
from detcenter.models.build import MODEL_NAMES, OVER_BACKBONES, build_model
from detcenter.models.checkpointing import set_gradient_checkpointing
from detcenter.models.enrolled import EnrolledClasses
from detcenter.models.families import family_of, terms_of
from detcenter.models.l2_softmax import L2Softmax, set_l2_softmax
from detcenter.models.terms import Embedding
from detcenter.models.voting import vote
from detcenter.models.weights import WeightsError, initialize, read_weights

__all__ = [
    "MODEL_NAMES",
    "OVER_BACKBONES",
    "Embedding",
    "EnrolledClasses",
    "L2Softmax",
    "WeightsError",
    "attach",
    "box_features",
    "box_logits",
    "build_model",
    "detach",
    "detect_with_features",
    "embedding_of",
    "enroll",
    "family_of",
    "feature_sizes",
    "initialize",
    "read_weights",
    "set_box_vectors",
    "set_gradient_checkpointing",
    "set_l2_softmax",
    "set_losses_over_processes",
    "set_min_negatives",
    "terms_of",
    "vote",
]
