"""The training loop on accelerate, its schedules, its checkpoints and what it leaves behind."""

from detcenter.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from detcenter.training.engine import (
    TrainingError,
    collate,
    describe_losses,
    detect,
    train_epoch,
)
from detcenter.training.optimization import make_optimizer, make_schedule
from detcenter.training.recent import recent_features
from detcenter.training.records import RunRecords, peak_memory_mib

__all__ = [
    "CheckpointError",
    "RunRecords",
    "TrainingError",
    "collate",
    "describe_losses",
    "detect",
    "load_checkpoint",
    "make_optimizer",
    "make_schedule",
    "peak_memory_mib",
    "recent_features",
    "rng_state",
    "save_checkpoint",
    "set_rng_state",
    "train_epoch",
]
