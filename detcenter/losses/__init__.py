"""Losses that know only torch: no detector, no data set, no configuration."""

from detcenter.losses.center import CenterLoss, held_centers
from detcenter.losses.metric import metric_loss
from detcenter.losses.multibox import MultiBoxLoss
from detcenter.losses.processes import process_count, share_of, sum_over_processes
from detcenter.losses.rank_hard import RankHardLoss

__all__ = [
    "CenterLoss",
    "MultiBoxLoss",
    "RankHardLoss",
    "held_centers",
    "metric_loss",
    "process_count",
    "share_of",
    "sum_over_processes",
]
