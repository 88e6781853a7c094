"""The numbers of the first study's pages are those of its JSONs, and rightly taken."""

import re
import runpy
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

STUDY = Path(__file__).parents[1] / "docs/study"
FIRST = (STUDY / "first.md").read_text()


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(STUDY)
    monkeypatch.chdir(STUDY.parents[1])


def test_its_blocks_are_what_the_scripts_print(monkeypatch, capsys):
    commands = re.findall(
        r"\$ python (docs/study/(?:intervals|pooled)\.py(?:[^$`]*?))\n(?! )", FIRST
    )
    assert len(commands) == 20 + 4
    for command in commands:
        monkeypatch.setattr(sys, "argv", command.replace("\\\n", " ").split())
        runpy.run_path(sys.argv[0], run_name="__main__")
        assert capsys.readouterr().out in FIRST, command


def test_the_table_of_the_short_page_has_every_comparison():
    forest = pytest.importorskip("forest", exc_type=ImportError)  # without matplotlib
    assert forest.table() in (STUDY.parent / "study.md").read_text()
    files = {file for rows in forest.GROUPS.values() for _, file, _, _ in rows}
    assert files == {path.stem for path in STUDY.glob("*.json")}


def test_every_run_is_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["runs.py", str(tmp_path / "runs.csv")])
    runpy.run_path(str(STUDY / "runs.py"), run_name="__main__")
    assert (tmp_path / "runs.csv").read_text() == (STUDY / "runs.csv").read_text()
    assert "186 runs in 20 comparisons, 9 of them on dice; 12 of" in capsys.readouterr().out


def test_errors_over_seeds_and_images_are_added():
    from intervals import Pair, over_both

    # Standard errors are 1 and 2: a variance of 5, 25 / (1 / 2 + 16 / 9) degrees of freedom.
    values = np.array([5 - 3**0.5, 5, 5 + 3**0.5])
    found = over_both(Pair("a", "b", [0, 1, 2], {"AP": values}, (1.0, 1 + 4 * 1.96)), 10)
    df = 25 / (1 / 2 + 16 / 9)
    assert found.df == pytest.approx(df)
    assert found[:2] == pytest.approx(stats.t.interval(0.95, df, 5, 5**0.5))


@pytest.mark.parametrize(
    "first, second, files, row, expected",
    [  # docs/study/referee.md, rows 1 and 2, and the pages
        ("plain", "center", "five", "mean of settings: settings", (2.3, 0.8, 3.8)),
        ("plain", "center", "five", "mean of pairs: settings and seeds", (2.65, 0.9, 4.4)),
        ("plain", "center", "six", "mean of settings: settings", (1.8, 0.15, 3.5)),
        ("softmax", "center", "ssd", "mean of pairs: seeds", (0.0, -0.9, 1.0)),
        ("plain", "softmax", "ssd", "mean of pairs: seeds", (1.5, 0.1, 2.9)),
    ],
)
def test_the_means_are_the_referees(first, second, files, row, expected):
    from pooled import intervals

    found = {name: (mean, *x[:2]) for name, mean, x in intervals(of(first, second, files), "AP")}
    assert found[row] == pytest.approx(expected, abs=0.051)


def test_errors_go_together_by_setting_and_by_seed():
    from pooled import clustered, runs_of

    runs = runs_of(of("plain", "center", "six"), "AP")
    errors = runs.weights * (runs.values - runs.mean)

    def variance(same):
        pairs = product(range(len(errors)), repeat=2)
        return sum(errors[i] * errors[j] for i, j in pairs if same(i, j))

    setting, seed = runs.setting, runs.seed
    by_setting = variance(lambda i, j: setting[i] == setting[j]) * 6 / 5
    by_seed = variance(lambda i, j: seed[i] == seed[j]) * 7 / 6
    by_both = variance(lambda i, j: i == j) * 24 / 23
    half = stats.t.ppf(0.975, 5) * (by_setting + by_seed - by_both) ** 0.5
    found = clustered(runs, setting, seed)
    assert found[:2] == pytest.approx((runs.mean - half, runs.mean + half))


def test_heterogeneity_of_equal_errors_is_by_hand():
    from intervals import Pair
    from pooled import Setting, heterogeneity

    wide, means = (-1.96, 1.96), (0.0, 3.0, 6.0)  # 1 over images, nothing over seeds
    pairs = [Pair("a", "b", [0, 1], {"AP": np.full(2, m)}, wide) for m in means]
    found = heterogeneity(
        [Setting(f"{m}", p, ("digits", 200)) for m, p in zip(means, pairs, strict=True)]
    )
    # Q is 9 + 0 + 9, tau² the variance of the means less that of the errors.
    assert found == pytest.approx((18, stats.chi2.sf(18, 2), 1 - 2 / 18, 9 - 1))


def of(first, second, files):
    from intervals import pair_of, validation_set
    from pooled import Setting

    names = {
        "five": "rcnn_200 rcnn_tail50 rcnn_noise10 rcnn_noise30 rcnn_dice",
        "six": "rcnn_200 rcnn_tail50 rcnn_noise10 rcnn_noise30 rcnn_dice rcnn_40classes",
        "ssd": "ssd_200 ssd_100 ssd_400 ssd_tail50 ssd_40classes ssd_noise30 ssd_50",
    }[files].split()
    paths = [STUDY / f"{name}.json" for name in names]
    return [Setting(p.stem, pair_of(p, first, second), validation_set(p)) for p in paths]
