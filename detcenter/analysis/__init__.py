"""What runs and their features say: compactness, comparisons of variants, and pictures of both."""

from detcenter.analysis.compactness import compactness, compactness_table
from detcenter.analysis.comparison import (
    Comparison,
    Failure,
    SeedScores,
    VariantScores,
    compare,
)
from detcenter.analysis.comparison_plot import comparison_figure
from detcenter.analysis.comparison_table import (
    comparison_json,
    comparison_rows,
    comparison_table,
)
from detcenter.analysis.forest_plot import forest_figure
from detcenter.analysis.nearest import Nearest, nearest
from detcenter.analysis.paired import (
    PairedDifference,
    mean_and_spread,
    paired_difference,
    resampling_interval,
)
from detcenter.analysis.plots import SweepCell, scatter, sweep_figure
from detcenter.analysis.pooled import Setting, pool
from detcenter.analysis.pooled_table import (
    POOLED,
    PooledPair,
    pool_json,
    pool_table,
    pooled_pair,
)
from detcenter.analysis.projections import Projection, projections
from detcenter.analysis.retrieval import retrieval, retrieval_table

__all__ = [
    "POOLED",
    "Comparison",
    "Failure",
    "Nearest",
    "PairedDifference",
    "PooledPair",
    "Projection",
    "SeedScores",
    "Setting",
    "SweepCell",
    "VariantScores",
    "compactness",
    "compactness_table",
    "compare",
    "comparison_figure",
    "comparison_json",
    "comparison_rows",
    "comparison_table",
    "forest_figure",
    "nearest",
    "mean_and_spread",
    "paired_difference",
    "pool",
    "pool_json",
    "pool_table",
    "pooled_pair",
    "projections",
    "resampling_interval",
    "retrieval",
    "retrieval_table",
    "scatter",
    "sweep_figure",
]
