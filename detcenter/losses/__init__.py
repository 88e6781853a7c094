"""Losses that know only torch: no detector, no data set, no configuration."""

from detcenter.losses.center import CenterLoss
from detcenter.losses.multibox import MultiBoxLoss

__all__ = ["CenterLoss", "MultiBoxLoss"]
