"""Losses that know only torch: no detector, no data set, no configuration."""

from detcenter.losses.center import CenterLoss
from detcenter.losses.metric import metric_loss
from detcenter.losses.multibox import MultiBoxLoss
from detcenter.losses.processes import Processes
from detcenter.losses.rank_hard import RankHardLoss
from detcenter.losses.steps import held_centers

__all__ = [
    "CenterLoss",
    "MultiBoxLoss",
    "Processes",
    "RankHardLoss",
    "held_centers",
    "metric_loss",
]
