"""Comparisons of variants whose scores are made up, so that every number is known."""

import json
import math

import numpy as np
import pytest

from detcenter.analysis import (
    SeedScores,
    VariantScores,
    compare,
    comparison_figure,
    comparison_json,
    comparison_table,
)

CLASSES = ["cat", "dog"]


def variant(name, aps, spread=0.01, ratio=0.5):
    """The AP of each seed; resampled images move all variants alike, and each a little."""
    together = np.random.default_rng(0).normal(0, 0.05, size=1000)
    seeds = {}
    for seed, ap in aps.items():
        own = np.random.default_rng([seed, *name.encode()]).normal(0, spread, size=1000)
        seeds[seed] = SeedScores(
            {"AP": ap, "AP50": ap + 0.3, "AP75": ap + 0.1},
            {"cat": ap, "dog": math.nan},
            ap + together + own,
            {"own_ratio": ratio, "term_ratio": None, "step_seconds": 0.25, "memory_mib": 100.0},
        )
    return VariantScores(name, seeds)


@pytest.fixture(scope="module")
def comparison():
    return compare(
        [
            variant("plain", {0: 0.50, 1: 0.51, 2: 0.49, 3: 0.50}),
            variant("softmax", {0: 0.52, 1: 0.53, 2: 0.51, 3: 0.521}),
            variant("center", {0: 0.53, 1: 0.51, 2: 0.52}),
        ],
        CLASSES,
    )


def test_every_pair_by_the_seeds_that_both_have(comparison):
    assert [(p.first, p.second, p.seeds) for p in comparison.pairs] == [
        ("plain", "softmax", [0, 1, 2, 3]),
        ("plain", "center", [0, 1, 2]),
        ("softmax", "center", [0, 1, 2]),
    ]
    assert comparison.pairs[0].differences["AP"].values == pytest.approx([0.02, 0.02, 0.02, 0.021])
    assert comparison.pairs[2].differences["AP50"].values == pytest.approx([0.01, -0.02, 0.01])


def test_sentences(comparison):
    helps, _, unknown = (pair.sentence for pair in comparison.pairs)
    assert helps.startswith(
        "softmax against plain: helps, as far as 4 seeds can tell: AP +2.0 points"
    )
    assert "over 4 seeds (permutation p 0.12)" in helps
    assert unknown.startswith("center against softmax: cannot be told with 3 seeds: AP 0.0 points")
    back = compare(comparison.variants[1::-1], CLASSES).pairs[0].sentence
    assert back.startswith(
        "plain against softmax: hurts, as far as 4 seeds can tell: AP -2.0 points"
    )
    aps = {seed: 0.5 for seed in range(5)}
    better = {seed: 0.51 + seed / 1000 for seed in range(5)}
    (pair,) = compare([variant("plain", aps), variant("better", better)], CLASSES).pairs
    assert pair.sentence.startswith(
        "better against plain: helps: AP +1.2 points, 95 % interval +1.0 to +1.4 over 5 seeds"
    )
    close = variant("close", {0: 0.51, 1: 0.502, 2: 0.495, 3: 0.5})
    (pair,) = compare([comparison.variants[0], close], CLASSES).pairs
    assert f"about {pair.differences['AP'].seeds_to_tell} would tell" in pair.sentence


def test_images_are_resampled_in_pairs(comparison):
    # What moves both variants alike drops out; the mean over seeds has half of one seed's spread.
    low, high = comparison.pairs[0].images
    assert (low + high) / 2 == pytest.approx(0.02, abs=0.002)
    assert high - low == pytest.approx(2 * 1.96 * 0.01 * math.sqrt(2 / 4), rel=0.1)
    of_seed = comparison.pairs[0].images_by_seed[0]
    assert of_seed[1] - of_seed[0] == pytest.approx(2 * 1.96 * 0.01 * math.sqrt(2), rel=0.1)


def test_json_has_all_of_it(comparison):
    values = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))
    plain = values["variants"][0]
    assert plain["AP"]["mean"] == pytest.approx(0.5)
    assert plain["AP"]["std"] == pytest.approx(0.00816, abs=1e-5)
    assert plain["AP"]["values"] == [0.50, 0.51, 0.49, 0.50]
    assert plain["AP_by_class"]["dog"]["mean"] is None and plain["term_ratio"] is None
    assert plain["own_ratio"]["mean"] == 0.5
    pair = values["pairs"][0]
    assert pair["AP"]["verdict"] == "helps" and pair["AP"]["interval"][0] > 0
    assert set(pair["images"]["by_seed"]) == {"0", "1", "2", "3"}


def test_table(comparison):
    table = comparison_table(comparison)
    row = next(line for line in table.splitlines() if line.startswith("1  plain"))
    assert row.split() == [
        "1", "plain", "4", "0.500", "±0.008", "0.800", "±0.008", "0.600", "±0.008",
        "0.500", "±0.000", "–", "250", "±0", "100", "±0",
    ]  # fmt: skip
    by_class = [line.split() for line in table.splitlines() if line[:3] in ("cat", "dog")]
    assert by_class == [["cat", "0.500", "0.520", "0.520"], ["dog", "–", "–", "–"]]


def test_pairs_without_common_seeds_are_left_out(comparison):
    other = variant("other", {7: 0.5, 8: 0.5})
    assert compare([comparison.variants[0], other], CLASSES).pairs == []


def test_figure(comparison):
    figure = comparison_figure(comparison)
    figure.draw_without_rendering()
    assert [axes.get_title() for axes in figure.axes] == ["AP", "AP50", "difference of AP, points"]
    seeds = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in seeds][2] == [0.53, 0.51, 0.52]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["plain", "softmax", "center"]
    assert "softmax\nminus plain" in [x.get_text() for x in figure.axes[2].get_yticklabels()]
