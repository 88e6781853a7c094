"""The statistics against SciPy's own tests and cases counted by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from detcenter.analysis import mean_and_spread, paired_difference, resampling_interval
from detcenter.analysis.paired import seeds_to_tell


def test_a_case_counted_by_hand():
    # Differences 1, 2, 3: mean 2, spread 1, t(2) at 97.5 % is 4.30265.
    found = paired_difference([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    assert found.values == [1, 2, 3] and found.mean == 2
    assert found.low == pytest.approx(2 - 4.30265 / math.sqrt(3), abs=1e-4)
    assert found.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)
    # Of the eight ways to set signs only +++ and --- are as far from zero.
    assert found.p == pytest.approx(2 / 8)
    assert found.verdict == "cannot be told"


def test_the_interval_is_the_paired_t_tests():
    rng = np.random.default_rng(0)
    for n in (2, 5, 20):
        a, b = rng.normal(size=(2, n))
        interval = stats.ttest_rel(b, a).confidence_interval(0.95)
        found = paired_difference(a, b)
        assert (found.low, found.high) == pytest.approx(tuple(interval))


@pytest.mark.parametrize("n", [3, 8])
def test_every_sign_is_flipped(n):
    differences = np.random.default_rng(n).normal(0.5, size=n)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    means = (signs * differences).mean(axis=1)
    expected = (np.abs(means) >= abs(differences.mean()) - 1e-12).mean()
    assert paired_difference(np.zeros(n), differences).p == pytest.approx(expected)


def test_verdicts():
    steady = [0.010, 0.012, 0.011, 0.009, 0.013]
    assert paired_difference([0] * 5, steady).verdict == "helps"
    assert paired_difference(steady, [0] * 5).verdict == "hurts"
    assert paired_difference([0] * 5, [0.1, -0.1, 0.2, -0.2, 0]).verdict == "cannot be told"


def test_equal_differences_have_no_spread():
    found = paired_difference([1.0, 2.0], [1.5, 2.5])
    assert (found.low, found.high, found.seeds_to_tell) == (0.5, 0.5, 2)
    same = paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert same.verdict == "cannot be told" and same.seeds_to_tell is None and same.p == 1


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [paired_difference(np.zeros(4), rng.normal(1, 2, size=4)) for _ in range(400)]
    held = np.mean([pair.low <= 1 <= pair.high for pair in found])
    assert held == pytest.approx(0.95, abs=0.03)


def test_seeds_to_tell_find_the_difference_four_times_of_five():
    # Textbook value: an effect of half a spread takes 34 pairs (Cohen 1988).
    assert seeds_to_tell(0.5, 1.0) == seeds_to_tell(-5.0, 10.0) == 34
    rng = np.random.default_rng(0)
    samples = rng.normal(0.5, 1.0, size=(4000, 34))
    assert (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(
        0.8, abs=0.03
    )
    assert seeds_to_tell(0.001, 1.0) is None and seeds_to_tell(0.0, 1.0) is None


@pytest.mark.parametrize(
    "first, second", [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 2.0])]
)
def test_wrong_values(first, second):
    with pytest.raises(ValueError):
        paired_difference(first, second)


def test_mean_and_spread():
    assert mean_and_spread([1.0, 3.0]) == {"mean": 2.0, "std": pytest.approx(math.sqrt(2))}
    assert math.isnan(mean_and_spread([1.0])["std"])


def test_resampling_interval():
    values = np.append(np.arange(1001) / 1000, math.nan)
    assert resampling_interval(values) == pytest.approx((0.025, 0.975))
