"""Comparisons of variants whose scores are made up, so that every number is known."""

import json
import math

import numpy as np
import pytest

from detcenter.analysis import (
    Failure,
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
            {"AP": ap + together + own, "AP50": ap + together, "AP75": ap + together + own / 2},
            {"own_ratio": ratio, "term_ratio": None, "step_seconds": 0.25, "memory_mib": 100.0},
        )
    return VariantScores(name, seeds)


@pytest.fixture(scope="module")
def comparison():
    return compare(
        [
            variant("plain", {0: 0.50, 1: 0.51, 2: 0.49, 3: 0.50}),
            variant("softmax", {0: 0.55, 1: 0.56, 2: 0.54, 3: 0.551}),
            variant("center", {0: 0.56, 1: 0.54, 2: 0.55}),
        ],
        CLASSES,
        images=200,
    )


def test_every_pair_by_the_seeds_that_both_have(comparison):
    assert [(p.first, p.second, p.seeds) for p in comparison.pairs] == [
        ("plain", "softmax", [0, 1, 2, 3]),
        ("plain", "center", [0, 1, 2]),
        ("softmax", "center", [0, 1, 2]),
    ]
    assert comparison.pairs[0].differences["AP"].values == pytest.approx([0.05, 0.05, 0.05, 0.051])
    assert comparison.pairs[2].differences["AP50"].values == pytest.approx([0.01, -0.02, 0.01])


def two(difference, count=8, **options):
    """Plain and another that differs by this on average, its seeds by a tenth of a point."""
    aps = {seed: 0.5 + seed / 100 for seed in range(count)}
    better = {seed: ap + difference + (seed % 2 - 0.5) / 1000 for seed, ap in aps.items()}
    spread = options.pop("spread", 0.001)
    both = [variant("plain", aps, spread), variant("other", better, spread)]
    return compare(both, CLASSES, 200, **options)


def test_sentences_of_what_is_told():
    assert (
        two(0.02)
        .sentence(0)
        .startswith(
            "other against plain: helps: AP +2.0 points, 95 % interval +1.9 to +2.1 "
            "over 8 seeds and 200 images (sign-flip p 0.0078)"
        )
    )
    assert ": hurts: AP -2.0 points" in two(-0.02).sentence(0)
    assert two(0.02, units="folds").sentence(0).count("over 8 folds") == 1


def test_so_few_only_seem_to_help(comparison):
    assert comparison.sentence(0) == (
        "softmax against plain: seems to help: AP +5.0 points, 95 % interval +3.7 to +6.4 "
        "over 4 seeds and 200 images (sign-flip p 0.12); "
        "7 seeds could tell"
    )
    assert "6 seeds could tell" in two(-0.02, 5).sentence(0)
    assert "seems to hurt" in two(-0.02, 5).sentence(0)


def test_holm_counts_all_variants(comparison):
    again = two(0.02).variants[1]._replace(name="again")
    found = compare([*two(0.02).variants, again], CLASSES, 200)
    assert ": helps: " in found.sentence(0) and "p 0.0078; p 0.016 of 2 by Holm)" in found.sentence(
        1
    )


def test_other_images_may_take_a_verdict_back():
    assert ": cannot be told: AP +2.0 points" in two(0.02, spread=0.05).sentence(0)


def test_units_with_images_of_their_own_have_them_in_their_differences():
    aps = {unit: 0.5 + unit / 100 for unit in range(8)}
    better = {unit: ap + 0.02 + (unit % 2 - 0.5) / 1000 for unit, ap in aps.items()}
    both = [variant("plain", aps, 0.05), variant("other", better, 0.05)]
    found = compare(both, CLASSES, None, units="values of data.root")
    assert ": helps: AP +2.0 points, 95 % interval +2.0 to +2.0 over 8 values" in found.sentence(0)
    assert found.pairs[0].differences["AP"].images_sd == 0
    label = comparison_figure(found).axes[2].get_xlabel()
    assert label == "thick: 95 % over values of data.root"
    assert "95 % over seeds and images; thin: seeds alone" in (
        comparison_figure(two(0.02)).axes[2].get_xlabel()
    )


def test_what_cannot_be_told_says_what_was_missed():
    found = two(0.0, spread=0.005)
    smallest = found.verdicts[0].detectable
    assert 0.005 < smallest < 0.01
    assert found.sentence(0).endswith(
        f"; 8 seeds may well have missed a difference below {100 * smallest:.1f} points"
    )


@pytest.mark.parametrize("apart", [0.0, 1e-6])
def test_differences_of_nothing_are_said_to_be_so(apart):
    plain = {seed: 0.0 for seed in range(6)}
    other = {seed: apart * seed for seed in plain}
    both = [variant("plain", plain, apart), variant("other", other, apart)]
    assert compare(both, CLASSES, 200).sentence(0) == (
        "other against plain: cannot be told: AP 0.0 points, 95 % interval 0.0 to 0.0 over 6 seeds "
        f"and 200 images (sign-flip p {'0.062' if apart else '1'}); all 6 differences are below "
        "0.05 points: the two are as good as the same, or have not learnt enough to differ"
    )


def test_what_many_seeds_may_miss_is_not_rounded_to_nothing():
    plain = {seed: 0.5 for seed in range(40)}
    other = {seed: 0.5 + (-1) ** seed * 0.0006 for seed in plain}  # spread 0.06, of the mean 0.01
    found = compare([variant("plain", plain, 0), variant("other", other, 0)], CLASSES, 200)
    assert found.sentence(0).endswith(" may well have missed a difference below 0.03 points")


def test_no_effect_where_it_was_asked_for():
    found = two(0.0, equivalence=0.01)
    assert found.sentence(0).startswith("other against plain: no effect of a point or more: AP ")
    assert "missed" not in found.sentence(0)
    both = two(0.002, equivalence=0.005).sentence(0)
    assert ": helps, but by less than 0.5 points: AP +0.2 points" in both
    assert ": cannot be told: " in two(0.0, spread=0.015, equivalence=0.01).sentence(0)


def test_metrics_that_say_otherwise_are_named():
    aps = {seed: 0.5 for seed in range(8)}
    changed = {seed: 0.48 + seed / 1000 for seed in range(8)}
    plain, softmax = variant("plain", aps, 0.001), variant("softmax", changed, 0.001)
    for seed, scores in softmax.seeds.items():
        scores.ap["AP50"] = 0.87 + seed / 1000
    sentence = compare([plain, softmax], CLASSES, 200).sentence(0)
    assert ": hurts: AP -1.7 points" in sentence
    assert sentence.endswith("; but AP50 rises, +7.3 points, +7.1 to +7.6")
    fewer = [VariantScores(v.name, {k: v.seeds[k] for k in range(4)}) for v in (plain, softmax)]
    assert "; but AP50 seems to rise, +7.1 points" in compare(fewer, CLASSES, 200).sentence(0)


def test_the_baseline_is_declared(comparison):
    found = compare(comparison.variants, CLASSES, 200, baseline="softmax")
    assert [(p.first, p.second) for p in found.pairs] == [
        ("softmax", "plain"),
        ("softmax", "center"),
        ("plain", "center"),
    ]
    assert len(found.verdicts) == 2 and found.sentence(0).count(" seems to hurt: AP -5.0 points")
    assert found.sentence(2).startswith(
        "center against plain, without a verdict: AP +5.0 points, 95 % interval "
    )
    assert comparison_json(found)["pairs"][2]["verdict"] is None
    with pytest.raises(ValueError, match="no variant is called none; known: plain, softmax"):
        compare(comparison.variants, CLASSES, 200, baseline="none")


def test_the_best_of_several_is_to_be_measured_again(comparison):
    note = "The best of 2 looks better than it is"
    assert note in comparison_table(comparison)
    assert "measure it again with fresh seeds, --train.seed 4" in comparison_table(comparison)
    varied = comparison._replace(units="values of train.lr")
    assert "measure it again with other values of --vary" in comparison_table(varied)
    assert "The best of" not in comparison_table(two(0.02))


def failure(name, seed, finished=False):
    return Failure(name, seed, f"out/{name}/seed_{seed}", "NaN (see log.txt)", finished)


def test_failures_are_counted_and_take_the_verdict_back():
    found = two(0.02, failures=[failure("other", 8), failure("plain", 9, finished=True)])
    assert found.sentence(0).startswith(
        "other against plain: no verdict, as failures differ, 1 here and 0 of the baseline: AP +2.0"
    )
    values = comparison_json(found)
    assert values["failures"][0] == {
        "variant": "other", "unit": 8, "run": "out/other/seed_8",
        "reason": "NaN (see log.txt)", "finished": False,
    }  # fmt: skip
    assert [variant["failed"] for variant in values["variants"]] == [[], [8]]
    table = comparison_table(found)
    rows = [line.split()[1:5] for line in table.splitlines() if line[:3] in ("1  ", "2  ")]
    assert rows == [["plain", "8", "0.535", "±0.024"], ["other", "8", "of", "9"]]
    assert "failed: out/other/seed_8: NaN (see log.txt)\n" in table + "\n"
    assert "out/plain/seed_9: NaN (see log.txt); it finished when tried again" in table
    equally = two(0.02, failures=[failure("other", 8), failure("plain", 9)])
    assert ": helps: " in equally.sentence(0)


def test_images_are_resampled_in_pairs(comparison):
    # What moves both variants alike drops out; the mean over seeds has half of one seed's spread.
    low, high = comparison.pairs[0].images
    assert (low + high) / 2 == pytest.approx(0.05, abs=0.002)
    assert high - low == pytest.approx(2 * 1.96 * 0.01 * math.sqrt(2 / 4), rel=0.1)
    sd = comparison.pairs[0].differences["AP"].images_sd
    assert sd == pytest.approx(0.01 * math.sqrt(2 / 4), rel=0.1)
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
    assert pair["verdict"]["said"] == "seems to help" and pair["AP"]["joint"][0] > 0
    assert pair["AP"]["interval"][0] > pair["AP"]["joint"][0]
    assert pair["AP75"]["images_sd"] == pytest.approx(pair["AP"]["images_sd"] / 2)
    assert values["baseline"] == "plain" and values["images"] == 200
    assert set(pair["images"]["by_seed"]) == {"0", "1", "2", "3"}


def test_table(comparison):
    table = comparison_table(comparison)
    row = next(line for line in table.splitlines() if line.startswith("1  plain"))
    assert row.split() == [
        "1", "plain", "4", "0.500", "±0.008", "0.800", "±0.008", "0.600", "±0.008",
        "0.500", "±0.000", "–", "250", "±0", "100", "±0",
    ]  # fmt: skip
    by_class = [line.split() for line in table.splitlines() if line[:3] in ("cat", "dog")]
    assert by_class == [["cat", "0.500", "0.550", "0.550"], ["dog", "–", "–", "–"]]


def test_pairs_without_common_seeds_are_left_out(comparison):
    other = variant("other", {7: 0.5, 8: 0.5})
    found = compare([comparison.variants[0], other], CLASSES, 200)
    assert found.pairs == [] == found.verdicts
    assert "other against plain: fewer than two seeds in common" in comparison_table(found)


def test_figure(comparison):
    figure = comparison_figure(comparison)
    figure.draw_without_rendering()
    assert [axes.get_title() for axes in figure.axes] == ["AP", "AP50", "difference of AP, points"]
    seeds = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in seeds][2] == [0.56, 0.54, 0.55]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["plain", "softmax", "center"]
    assert "softmax\nminus plain" in [x.get_text() for x in figure.axes[2].get_yticklabels()]
    ends = [line.get_xdata() for line in figure.axes[2].lines if line.get_linewidth() == 3]
    joint = comparison.pairs[0].differences["AP"].joint
    assert list(ends[0]) == pytest.approx([100 * x for x in joint])
