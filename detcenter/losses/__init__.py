"""Losses that know only torch: no detector, no data set, no configuration."""

from detcenter.losses.center import CenterLoss
from detcenter.losses.metric import metric_loss
from detcenter.losses.multibox import MultiBoxLoss
from detcenter.losses.rank_hard import RankHardLoss

__all__ = ["CenterLoss", "MultiBoxLoss", "RankHardLoss", "metric_loss"]
