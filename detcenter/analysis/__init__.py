"""How compact the features of each class are: in numbers, in two dimensions, and in pictures."""

from detcenter.analysis.compactness import compactness, compactness_table
from detcenter.analysis.plots import SweepCell, scatter, sweep_figure
from detcenter.analysis.projections import Projection, projections

__all__ = [
    "Projection",
    "SweepCell",
    "compactness",
    "compactness_table",
    "projections",
    "scatter",
    "sweep_figure",
]
