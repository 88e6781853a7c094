"""Did it help? Differences between two ways of training, seed by seed."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from detcenter.analysis.joint import LEVEL, half_width, level_at, sign_flip_p

COMPARED = ("AP", "AP50", "AP75")


class PairedDifference(NamedTuple):
    """What n units, seeds or data sets, say about the difference of two variants."""

    values: list[float]  # of every unit
    mean: float
    low: float  # of the 95 % interval of the mean over units alone, by Student's t
    high: float
    p: float  # of the sign-flip permutation test, two-sided
    images_sd: float  # of the mean over resampled images; 0 where units have images of their own
    joint: tuple[float, float]  # the 95 % interval over units and images, see `half_width`
    joint_p: float  # of that interval


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    images_sd: float = 0.0,
    images: int | None = None,
) -> PairedDifference:
    """``second`` minus ``first``, whose n values are of the same n units in the same order.

    Args:
        images_sd, images: how much the mean varies over resampled images, and how many these are,
            if all units were measured on the same; see `half_width`.

    Raises:
        ValueError: fewer than two units, different numbers of them, or a value that is not finite.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"{len(first)} and {len(second)} values; pairs of two seeds or more are due"
        )
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    if not np.isfinite(differences).all() or not math.isfinite(images_sd):
        raise ValueError(f"values that are not finite: {list(first)}, {list(second)}, {images_sd}")
    mean = float(differences.mean())
    if np.ptp(differences) == 0:  # the t interval is 0/0
        low = high = mean
    else:
        low, high = stats.ttest_1samp(differences, 0).confidence_interval(1 - LEVEL)
    half = float(half_width(LEVEL, differences, images_sd, images))
    return PairedDifference(
        differences.tolist(),
        mean,
        float(low),
        float(high),
        float(sign_flip_p(differences)),
        images_sd,
        (mean - half, mean + half),
        float(level_at(np.abs(differences.mean()), differences, images_sd, images)),
    )


def mean_and_spread(values: Sequence[float]) -> Mapping[str, float]:
    """``mean``, and ``std`` with n - 1; nan for the spread of a single one."""
    array = np.asarray(values, dtype=float)
    return {
        "mean": float(array.mean()),
        "std": float(array.std(ddof=1)) if len(array) > 1 else math.nan,
    }


def resampling_interval(differences: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of ``differences`` [B] between two variants over resampled images.

    What a resample cannot measure, nan, is left out.
    """
    tail = 100 * LEVEL / 2
    low, high = np.nanpercentile(differences, [tail, 100 - tail])
    return float(low), float(high)
