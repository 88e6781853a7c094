"""Objects of classes that a detector was never taught: how little a box looks like any it knows."""

from detcenter.unknown.scorer import WAYS, By, UnknownScorer, threshold_losing

__all__ = ["WAYS", "By", "UnknownScorer", "threshold_losing"]
