"""The training loop on accelerate, its schedules, its checkpoints and what it leaves behind."""

from detcenter.training.averaging import averaged
from detcenter.training.batches import EpochBatches
from detcenter.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)
from detcenter.training.engine import (
    LossMeans,
    NotFiniteError,
    OverflowedStep,
    TrainingError,
    describe_losses,
    detect,
    taken_back,
    train_step,
)
from detcenter.training.optimization import make_optimizer, make_schedule
from detcenter.training.recent import RecentFeatures
from detcenter.training.records import RunRecords, peak_memory_mib
from detcenter.training.stopping import Stopped, StopRequest, ignore_stops, stop_request
from detcenter.training.transport import PackedBatch, as_floats, collate, on_device

__all__ = [
    "CheckpointError",
    "EpochBatches",
    "LossMeans",
    "NotFiniteError",
    "OverflowedStep",
    "PackedBatch",
    "RecentFeatures",
    "RunRecords",
    "StopRequest",
    "Stopped",
    "TrainingError",
    "as_floats",
    "averaged",
    "collate",
    "describe_losses",
    "detect",
    "ignore_stops",
    "load_checkpoint",
    "load_newest",
    "make_optimizer",
    "make_schedule",
    "on_device",
    "peak_memory_mib",
    "save_checkpoint",
    "stop_request",
    "taken_back",
    "train_step",
]
