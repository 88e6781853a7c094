"""Several comparisons together, against naive sums, scipy, known numbers, and drawn data."""

import inspect
import json
import math

import numpy as np
import pytest
from scipy import stats

from detcenter.analysis import Setting, pool, pool_json, pool_table, pooled_pair
from detcenter.analysis.pooled import clustered_mean, heterogeneity


def drawn(seed, counts=(5, 3, 4), shared_data=True):
    """Settings with the seeds from 0 on, of which the first two may share their data."""
    rng = np.random.default_rng(seed)
    settings = {}
    for i, n in enumerate(counts):
        data = "ab"[0 if shared_data and i < 2 else 1] + ("" if shared_data else str(i))
        settings[f"s{i}"] = Setting((rng.normal(1, 2, n) + i).tolist(), [*range(n)], [data] * n)
    return settings


def naive_variance(settings, by_pair=False):
    """Products of residuals of all pairs of pairs that have something in common, by three sums."""
    rows = [
        (value, seed, data, 1 if by_pair else 1 / len(setting.values))
        for setting in settings.values()
        for value, seed, data in zip(*setting[:3], strict=True)
    ]
    total = sum(row[3] for row in rows)
    mean = sum(row[0] * row[3] for row in rows) / total

    def summed(same, groups):
        products = sum(
            a[3] / total * (a[0] - mean) * b[3] / total * (b[0] - mean)
            for a in rows
            for b in rows
            if same(a, b)
        )
        return products * groups / (groups - 1)

    seeds, data = len({row[1] for row in rows}), len({row[2] for row in rows})
    by_seed = summed(lambda a, b: a[1] == b[1], seeds)
    by_data = summed(lambda a, b: a[2] == b[2], data)
    cells = len({row[1:3] for row in rows})
    both = summed(lambda a, b: a[1:3] == b[1:3], cells)
    return mean, by_seed, by_data, both, min(seeds, data) - 1


@pytest.mark.parametrize("by_pair", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_two_way_clusters_by_loops(seed, by_pair):
    settings = drawn(seed, (5, 3, 4, 7), shared_data=seed % 2 == 0)
    mean, by_seed, by_data, both, degrees = naive_variance(settings, by_pair)
    variance = max(by_seed + by_data - both, by_seed, by_data)
    found = clustered_mean(settings, by_pair)
    assert found.mean == pytest.approx(mean)
    assert found.error == pytest.approx(math.sqrt(variance))
    reach = stats.t.ppf(0.975, degrees) * math.sqrt(variance)
    assert [found.low, found.high] == pytest.approx([mean - reach, mean + reach])
    assert found.clusters == {"seeds": 7, "validation sets": degrees + 1}


def test_the_headline_is_the_mean_of_settings():
    settings = drawn(0, (7, 2))
    means = [np.mean(setting.values) for setting in settings.values()]
    pooled = pool(settings)
    assert pooled.mean.mean == pytest.approx(np.mean(means))
    everything = [x for setting in settings.values() for x in setting.values]
    assert pooled.mean_of_pairs.mean == pytest.approx(np.mean(everything))


def test_a_variance_below_that_of_one_way_is_not_believed():
    # Seeds cancel within each setting and settings over seeds: all that is left is below zero.
    one = Setting([1.0, -1.0], [0, 1], ["a"] * 2)
    settings = {"one": one, "two": one._replace(values=[-1.0, 1.0], validation=["b"] * 2)}
    _, by_seed, by_data, both, _ = naive_variance(settings)
    assert by_seed + by_data - both < 0 and by_seed == by_data == 0
    assert clustered_mean(settings).error == 0
    settings["one"] = one._replace(values=[3.0, 1.0])
    _, by_seed, by_data, both, _ = naive_variance(settings)
    assert 0 < by_seed + by_data - both < by_data
    assert clustered_mean(settings).error == pytest.approx(math.sqrt(by_data))


def test_the_same_data_in_all_leaves_settings_for_clusters():
    apart = drawn(1, shared_data=False)
    together = {name: x._replace(validation=["a"] * len(x.seeds)) for name, x in apart.items()}
    found, expected = clustered_mean(together), clustered_mean(apart)
    assert found[:4] == pytest.approx(expected[:4])
    assert found.clusters == {"seeds": 5, "settings": 3}


def test_data_sets_as_units():
    """A unit is its seed and its validation data at once: one-way clusters."""
    rng = np.random.default_rng(0)
    units = [f"data.digits.seed={i}" for i in range(8)]
    values = rng.normal(1, 1, (2, 8))
    settings = {
        name: Setting(row.tolist(), units, [f"print of {unit}" for unit in units])
        for name, row in zip(("clean", "noisy"), values, strict=True)
    }
    low, high = stats.ttest_1samp(values.mean(0), 0).confidence_interval(0.95)
    found = clustered_mean(settings)
    assert [found.low, found.high] == pytest.approx([low, high])


def test_one_setting_alone():
    setting = Setting([0.3, 0.9, 1.6, 0.2], [0, 1, 2, 3], ["a"] * 4)
    expected = stats.ttest_1samp(setting.values, 0).confidence_interval(0.95)
    found = clustered_mean({"only": setting})
    assert [found.low, found.high] == pytest.approx([*expected])
    blurred = clustered_mean({"only": setting._replace(image_error=0.4)})
    half = math.sqrt((expected[1] - found.mean) ** 2 + (1.959964 * 0.4) ** 2)
    assert [blurred.low, blurred.high] == pytest.approx([found.mean - half, found.mean + half])
    assert blurred.error == pytest.approx(math.hypot(found.error, 0.4))


def test_images_that_all_settings_share():
    """Their errors add up as if they were one, while other sets of images are their own measure."""
    blurred = {
        name: x._replace(image_error=error)
        for (name, x), error in zip(drawn(1).items(), (0.3, 0.6, 0.9), strict=True)
    }
    assert clustered_mean(blurred) == clustered_mean(drawn(1))
    one = {name: x._replace(validation=["a"] * len(x.seeds)) for name, x in blurred.items()}
    found = clustered_mean(one)
    known = clustered_mean({name: x._replace(image_error=0.0) for name, x in one.items()})
    half = math.hypot(known.high - known.mean, 1.959964 * 0.6)
    assert found.high - found.mean == pytest.approx(half)


def test_heterogeneity_by_hand():
    """Means 1 and 4 of variances 1/3 and 1: weights 3 and 1, mean 1.75."""
    settings = {
        "a": Setting([0.0, 1.0, 2.0], [0, 1, 2], ["a"] * 3),
        "b": Setting([3.0, 5.0], [0, 1], ["b"] * 2),
    }
    q = 3 * 0.75**2 + 2.25**2
    found = heterogeneity(settings)
    assert found.q == pytest.approx(q)
    assert found.i2 == pytest.approx((q - 1) / q)
    assert found.tau2 == pytest.approx((q - 1) / (4 - 10 / 4))
    two = stats.ttest_ind(settings["a"].values, settings["b"].values, equal_var=False)
    assert found.p == pytest.approx(two.pvalue)


@pytest.mark.skipif(
    "equal_var" not in inspect.signature(stats.f_oneway).parameters, reason="scipy before 1.16"
)
@pytest.mark.parametrize("counts", [(5, 3, 4), (2, 9, 3, 3, 6)])
def test_the_p_of_q_is_welchs(counts):
    settings = drawn(2, counts)
    welch = stats.f_oneway(*(setting.values for setting in settings.values()), equal_var=False)
    assert heterogeneity(settings).p == pytest.approx(welch.pvalue)


def test_images_make_settings_differ_less():
    settings = drawn(0)
    blurred = {name: x._replace(image_error=2.0) for name, x in settings.items()}
    assert heterogeneity(blurred).q < heterogeneity(settings).q
    assert heterogeneity(blurred).p > heterogeneity(settings).p


def test_a_setting_whose_pairs_are_equal():
    settings = drawn(0) | {"flat": Setting([0.0, 0.0], [0, 1], ["z"] * 2)}
    pooled = pool(settings)
    assert pooled.heterogeneity is None and pooled.new is None
    assert "not known" in pool_table([pooled_pair("a", "b", {"AP": settings, "AP50": settings})])


def test_another_setting():
    settings = drawn(3, (5, 5, 5, 5), shared_data=False)
    pooled = pool(settings)
    spread = math.sqrt(pooled.heterogeneity.tau2 + pooled.mean.error**2)
    reach = stats.t.ppf(0.975, 4 - 2) * spread
    assert pooled.new == pytest.approx((pooled.mean.mean - reach, pooled.mean.mean + reach))
    assert pool(drawn(3, (5, 5))).new is None
    few = pool(drawn(3, (2, 2, 2, 2, 2, 2), shared_data=False))
    assert few.new[0] <= few.mean.low and few.mean.high <= few.new[1]


def test_leaving_one_out():
    settings = drawn(0, (5, 3, 4, 2), shared_data=False)
    pooled = pool(settings)
    assert list(pooled.without) == list(settings)
    others = {name: x for name, x in settings.items() if name != "s1"}
    assert pooled.without["s1"] == clustered_mean(others)
    alone = pool(drawn(0, (5, 3))).without["s0"]
    assert alone == clustered_mean({"s1": drawn(0, (5, 3))["s1"]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": [1.0], "seeds": [0], "validation": ["a"]},
        {"seeds": [0, 1]},
        {"values": [1.0, math.nan, 2.0]},
    ],
)
def test_misuse(wrong):
    right = Setting([1.0, 2.0, 3.0], [0, 1, 2], ["a"] * 3)
    with pytest.raises(ValueError, match="two or more finite values"):
        pool({"right": right, "wrong": right._replace(**wrong)})
    with pytest.raises(ValueError, match="two or more are due"):
        pool({"right": right})
    with pytest.raises(ValueError, match="one seed and the same data"):
        clustered_mean({"only": right._replace(seeds=[0] * 3)})


def skewed(rng, scale, shape):
    return scale * (rng.exponential(1.0, shape) - 1)


def normal(rng, scale, shape):
    return rng.normal(0, scale, shape)


def crashing(rng, scale, shape):
    """Normal, but for one run of two in fifty pairs that failed."""
    crashed = rng.random(shape) < 0.04
    return rng.normal(0, scale, shape) + scale * 20 * crashed * rng.choice([-1, 1], shape)


@pytest.mark.parametrize("draw, least", [(normal, 0.93), (skewed, 0.89), (crashing, 0.93)])
@pytest.mark.parametrize("of_settings, of_seeds", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_coverage_with_five_settings_and_five_shared_seeds(draw, least, of_settings, of_seeds):
    """The true mean lies in at least 93 of 100 intervals, in fewer where all is exponential."""
    rng, draws, hits = np.random.default_rng(0), 600, 0
    for _ in range(draws):
        values = draw(rng, of_settings, (5, 1)) + draw(rng, of_seeds, (1, 5)) + draw(rng, 1, (5, 5))
        found = clustered_mean(
            {f"s{i}": Setting(row.tolist(), [*range(5)], [i] * 5) for i, row in enumerate(values)}
        )
        hits += found.low <= 0 <= found.high
    assert hits / draws >= least


def test_chance_alone_is_seldom_taken_for_heterogeneity():
    rng, draws, wrong, by_chi2 = np.random.default_rng(0), 500, 0, 0
    for _ in range(draws):
        found = heterogeneity(
            {str(i): Setting(rng.normal(0, 1, 5).tolist(), [*range(5)], [i] * 5) for i in range(5)}
        )
        wrong += found.p < 0.05
        by_chi2 += stats.chi2.sf(found.q, 4) < 0.05
    assert wrong / draws < 0.08 and by_chi2 / draws > 0.15


def test_json_and_table():
    settings = {name: x._replace(image_error=0.1) for name, x in drawn(0).items()}
    pair = pooled_pair("plain", "center", {"AP": settings, "AP50": drawn(1)})
    (values,) = json.loads(json.dumps(pool_json([pair]), allow_nan=False))["pairs"]
    assert (values["first"], values["second"]) == ("plain", "center")
    pooled = pool(settings)
    assert values["AP"]["mean"]["interval"] == [pooled.mean.low, pooled.mean.high]
    alone = values["AP"]["settings"][1]
    assert alone["values"] == settings["s1"].values
    assert alone["interval"] == [pooled.settings["s1"].low, pooled.settings["s1"].high]
    assert values["AP"]["without"][2]["mean"] == pooled.without["s2"].mean
    assert values["AP"]["another_setting"] == list(pooled.new)
    lines = pool_table([pair]).splitlines()
    assert lines[0] == "center minus plain, points, 95 % intervals"
    assert lines[3].split()[:2] == ["s0", "5"] and lines[6].startswith("mean of 3 settings")
    mean = pooled.mean
    numbers = f"{100 * mean.mean:+.1f} ({100 * mean.low:+.1f} to {100 * mean.high:+.1f})"
    assert numbers in lines[6]
    assert any("clustered by 5 seeds and 2 validation sets" in line for line in lines)
    assert lines[-1].endswith("that of AP over resampled images too")


def test_the_table_says_where_other_images_are_left_out():
    settings = {name: x._replace(validation=["a"] * len(x.seeds)) for name, x in drawn(0).items()}
    known = {name: x._replace(image_error=0.1) for name, x in settings.items()}
    (line,) = lines_with("same validation data", {"AP": known, "AP50": settings})
    assert line.endswith("; what other images would give is not in the interval of AP50")
    (line,) = lines_with("same validation data", {"AP": known, "AP50": known})
    assert line.endswith("; other images are in the intervals by resampling")


def lines_with(text, settings):
    table = pool_table([pooled_pair("a", "b", settings)])
    return [line for line in table.splitlines() if text in line]
