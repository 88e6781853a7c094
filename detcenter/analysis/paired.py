"""Did it help? Differences between two ways of training, seed by seed."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

CONFIDENCE = 0.95
POWER = 0.8  # the chance to find a difference that is there
_MOST_SEEDS = 1000  # beyond this nobody counts


class PairedDifference(NamedTuple):
    """What n seeds say about the difference of two variants."""

    values: list[float]  # of every seed
    mean: float
    low: float  # of the 95 % interval of the mean, by Student's t
    high: float
    p: float  # of the sign-flip permutation test, two-sided
    seeds_to_tell: int | None  # None: more than 1000, or no difference at all

    @property
    def verdict(self) -> Literal["helps", "hurts", "cannot be told"]:
        """Whether the interval leaves zero out."""
        if self.low > 0:
            return "helps"
        return "hurts" if self.high < 0 else "cannot be told"


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """``second`` minus ``first``, whose n values are of the same n seeds in the same order.

    The interval is Student's t on the n differences; the test flips their signs, in all 2^n ways
    up to 13 seeds, so that n seeds cannot give a p below 2 / 2^n. ``seeds_to_tell`` is the number
    at which a paired t-test finds a difference of this mean and spread with a chance of 80 %.

    Raises:
        ValueError: fewer than two seeds, different numbers of them, or a value that is not finite.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"{len(first)} and {len(second)} values; pairs of two seeds or more are due"
        )
    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    if not np.isfinite(differences).all():
        raise ValueError(f"values that are not finite: {list(first)}, {list(second)}")
    mean = float(differences.mean())
    if np.ptp(differences) == 0:  # the t interval is 0/0
        low = high = mean
    else:
        low, high = stats.ttest_1samp(differences, 0).confidence_interval(CONFIDENCE)
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, rng=0
    )
    spread = float(differences.std(ddof=1))
    return PairedDifference(
        differences.tolist(),
        mean,
        float(low),
        float(high),
        float(test.pvalue),
        seeds_to_tell(mean, spread),
    )


def seeds_to_tell(mean: float, spread: float) -> int | None:
    """The least number of seeds at which a paired t-test has a power of 80 %.

    Args:
        mean, spread: of the differences, the spread being their standard deviation.
    """
    if mean == 0:
        return None
    if spread == 0:
        return 2
    for seeds in range(2, _MOST_SEEDS + 1):
        bound = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1)
        shift = abs(mean) / spread * math.sqrt(seeds)
        # Beyond the bound on the far side too, as the test is two-sided.
        power = stats.nct.sf(bound, seeds - 1, shift) + stats.nct.cdf(-bound, seeds - 1, shift)
        if power >= POWER:
            return seeds
    return None


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
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(differences, [tail, 100 - tail])
    return float(low), float(high)
