"""The statistics against SciPy's own tests and cases counted by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from detcenter.analysis import mean_and_spread, paired_difference, resampling_interval
from detcenter.analysis.joint import (
    both_p,
    can_tell,
    detectable,
    equivalence_p,
    half_width,
    holm,
    level_at,
    p_text,
    sign_flip_p,
    units_to_tell,
)


def test_a_case_counted_by_hand():
    # Differences 1, 2, 3: mean 2, spread 1, t(2) at 97.5 % is 4.30265.
    found = paired_difference([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    assert found.values == [1, 2, 3] and found.mean == 2
    assert found.low == pytest.approx(2 - 4.30265 / math.sqrt(3), abs=1e-4)
    assert found.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)
    # Of the eight ways to set signs only +++ and --- are as far from zero.
    assert found.p == pytest.approx(2 / 8)
    # t as above, and n - 1 for n under the root.
    half = 4.30265 / math.sqrt(2)
    assert found.joint == pytest.approx((2 - half, 2 + half), abs=1e-4)
    assert found.joint_p == pytest.approx(2 * stats.t.sf(2 * math.sqrt(2), 2), rel=1e-5)


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


def test_images_and_seeds_add_up_as_squares():
    found = paired_difference([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], images_sd=0.5, images=50)
    of_images = 2.00958 * 0.5  # t(49) at 97.5 %
    half = math.hypot(4.30265 / math.sqrt(2), of_images)
    assert found.joint == pytest.approx((2 - half, 2 + half), abs=1e-4)
    assert (found.low, found.high) == pytest.approx((2 - 2.48413, 2 + 2.48413), abs=1e-4)
    steady = paired_difference([0.0] * 3, [1.0] * 3, images_sd=0.5, images=50)
    assert steady.joint == pytest.approx((1 - of_images, 1 + of_images), abs=1e-4)
    assert steady.joint_p == pytest.approx(2 * stats.t.sf(2, 49), rel=1e-5)


def test_p_is_the_level_whose_interval_ends_at_zero():
    values = np.random.default_rng(1).normal(1, 1, size=6)
    p = level_at(abs(values.mean()), values, 0.3, 200)
    assert half_width(p, values, 0.3, 200) == pytest.approx(abs(values.mean()), rel=1e-6)
    assert (level_at(np.array([0.0, -1.0]), np.array([values, values])) == 1).all()


def test_signs_are_enumerated_up_to_twenty():
    same = np.full(20, 0.1)
    assert sign_flip_p(same) == 2 / 2**20 and p_text(2 / 2**20, 20) == "1.9e-06"
    assert sign_flip_p(np.full(21, 0.1)) == pytest.approx(1e-4)
    assert p_text(1e-4, 21) == "< 0.0001" and p_text(0.02, 21) == "0.02"
    values = np.random.default_rng(0).normal(0.4, 1, size=24)
    expected = stats.ttest_1samp(values, 0).pvalue  # about normal at so many
    assert sign_flip_p(values) == pytest.approx(expected, abs=0.02)


def test_few_units_have_to_agree():
    assert [can_tell(n) for n in (5, 6)] == [False, True]
    assert [units_to_tell(m) for m in (1, 2, 3, 4)] == [6, 7, 7, 8]
    agreeing, not_all = np.array([1.0, 1.1, 0.9, 1.0]), np.array([1.0, 1.1, 0.9, -0.01])
    assert both_p(agreeing) == level_at(np.array(1.0), agreeing) and both_p(not_all) == 1
    six = np.array([1.0, 1.1, 0.9, 1.0, 1.2, 0.8])
    assert both_p(six) == 2 / 2**6  # the interval alone says 3e-5


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([[0.6, 0.5]])) == pytest.approx(np.array([[1.0, 1.0]]))


def test_no_effect_is_said_where_the_interval_says_it():
    values = np.array([0.1, -0.1, 0.2, 0.0, 0.1])
    edge = abs(values.mean()) + half_width(0.05, values, 0.05, 200)
    assert equivalence_p(values, edge * 1.001, 0.05, 200) < 0.05
    assert equivalence_p(values, edge * 0.999, 0.05, 200) > 0.05
    assert equivalence_p(values, 0.01) == 1


def test_a_detectable_difference_is_found_four_times_of_five():
    # Of a spread that is known Student's t finds 1.44 of it with six pairs (80 %, two-sided).
    values = np.random.default_rng(3).normal(0, 1, 6)
    smallest = detectable(values, 0.3, 200)
    spread = values.std(ddof=1) * math.sqrt(5 / stats.chi2.ppf(0.2, 5))
    assert smallest > 1.44 * spread
    rng = np.random.default_rng(4)
    found = smallest + rng.normal(0, spread, (2000, 6)) + rng.normal(0, 0.3, (2000, 1))
    assert (both_p(found, 0.3, 200) < 0.05).mean() == pytest.approx(0.8, abs=0.03)
    assert detectable(values, 0.3, 200, comparisons=4) > smallest


def test_what_is_detectable_takes_a_spread_that_is_small_by_luck_into_account():
    rng = np.random.default_rng(0)
    enough = [detectable(rng.normal(0, 1, 6)) for _ in range(60)]
    known = detectable_of_known_spread(6)
    assert np.mean(np.array(enough) >= known) == pytest.approx(0.8, abs=0.1)


def detectable_of_known_spread(n):
    draws = np.random.default_rng(1).normal(0, 1, (2000, n))
    sizes = np.linspace(1.5, 2, 11)
    return next(x for x in sizes if (both_p(draws + x) < 0.05).mean() >= 0.8)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [paired_difference(np.zeros(4), rng.normal(1, 2, size=4)) for _ in range(400)]
    held = np.mean([pair.low <= 1 <= pair.high for pair in found])
    assert held == pytest.approx(0.95, abs=0.03)


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
