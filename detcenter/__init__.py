"""Center loss, and any loss on box features, for torchvision's object detectors.

Names are imported when they are used: the commands have to say how OpenMP's threads wait before
torch is loaded, and those who only attach need none of what a recipe needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from detcenter.installed import missing_for

if TYPE_CHECKING:
    from detcenter.batched import fast as fast
    from detcenter.export import export_onnx as export_onnx
    from detcenter.losses import CenterLoss as CenterLoss
    from detcenter.losses import MultiBoxLoss as MultiBoxLoss
    from detcenter.losses import RankHardLoss as RankHardLoss
    from detcenter.losses import held_centers as held_centers
    from detcenter.models import Embedding as Embedding
    from detcenter.models import EnrolledClasses as EnrolledClasses
    from detcenter.models import L2Softmax as L2Softmax
    from detcenter.models import attach as attach
    from detcenter.models import box_features as box_features
    from detcenter.models import box_logits as box_logits
    from detcenter.models import detach as detach
    from detcenter.models import detect_with_features as detect_with_features
    from detcenter.models import enroll as enroll
    from detcenter.models import set_box_vectors as set_box_vectors
    from detcenter.models import set_l2_softmax as set_l2_softmax
    from detcenter.models import vote as vote
    from detcenter.runs.checkpoints import load as load
    from detcenter.runs.prediction import predict as predict
    from detcenter.unknown import UnknownScorer as UnknownScorer

_HOMES = {
    "CenterLoss": "losses",
    "Embedding": "models",
    "EnrolledClasses": "models",
    "L2Softmax": "models",
    "MultiBoxLoss": "losses",
    "RankHardLoss": "losses",
    "UnknownScorer": "unknown",
    "attach": "models",
    "box_features": "models",
    "box_logits": "models",
    "detach": "models",
    "detect_with_features": "models",
    "enroll": "models",
    "export_onnx": "export",
    "fast": "batched",
    "held_centers": "losses",
    "load": "runs.checkpoints",
    "predict": "runs.prediction",
    "set_box_vectors": "models",
    "set_l2_softmax": "models",
    "vote": "models",
}
__all__ = list(_HOMES)
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        try:
            found = getattr(import_module(f"detcenter.{_HOMES[name]}"), name)
        except ModuleNotFoundError as error:
            message = missing_for(f"detcenter.{name}")
            if message is None:
                raise
            raise ModuleNotFoundError(message, name=error.name) from None
        globals()[name] = found
        return found
    if name in _HOMES.values():  # detcenter.losses after nothing but `import detcenter`
        return import_module(f"detcenter.{name}")
    raise AttributeError(f"module 'detcenter' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
