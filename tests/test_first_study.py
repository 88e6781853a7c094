"""The numbers of the first study's pages are those of its JSONs, and rightly taken."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from detcenter.analysis import paired_difference
from detcenter.cli import main
from detcenter.runs.pooling import pooled_pairs

STUDY = Path(__file__).parents[1] / "docs/study"
FIRST = (STUDY / "first.md").read_text()


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(STUDY)
    monkeypatch.chdir(STUDY.parents[1])


def test_its_blocks_are_what_the_scripts_print(monkeypatch, capsys):
    commands = commands_of(r"docs/study/intervals\.py")
    assert len(commands) == 20
    for command in commands:
        monkeypatch.setattr(sys, "argv", command)
        runpy.run_path(sys.argv[0], run_name="__main__")
        assert capsys.readouterr().out in FIRST, command


def test_its_tables_of_several_comparisons_are_what_compare_prints(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    commands = commands_of(r"tools/compare\.py --pool")
    assert len(commands) == 4
    for _, *args in commands:
        args[args.index("--output") + 1] = str(tmp_path)
        assert main(["compare", *args]) == 0
        table, _, _ = capsys.readouterr().out.partition("\npool.png and")
        assert table in FIRST, args


def commands_of(beginning):
    """Those of the page that begin so, as a shell splits them: {a,b} stands for both."""
    found = re.findall(rf"\$ python ({beginning}[^$`]*?)\n(?! )", FIRST)
    return [
        [word for part in command.replace("\\\n", " ").split() for word in braced(part)]
        for command in found
    ]


def braced(word):
    before, brace, rest = word.partition("{")
    inside, _, after = rest.partition("}")
    return [before + x + after for x in inside.split(",")] if brace else [word]


def test_the_table_of_settings_has_every_comparison():
    import first_table

    assert first_table.table() in FIRST
    files = {file for rows in first_table.GROUPS.values() for _, file, _, _ in rows}
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


FIVE = "rcnn_200 rcnn_tail50 rcnn_noise10 rcnn_noise30 rcnn_dice"
SSD = "ssd_200 ssd_100 ssd_400 ssd_tail50 ssd_40classes ssd_noise30 ssd_50"


@pytest.mark.parametrize(
    "first, second, names, of, expected",
    [  # docs/study/referee.md, rows 1 and 2, and the pages
        ("plain", "center", FIVE, "mean", (2.3, 0.8, 3.8)),
        ("plain", "center", FIVE, "mean_of_pairs", (2.65, 0.9, 4.4)),
        ("plain", "center", f"{FIVE} rcnn_40classes", "mean", (1.8, -0.2, 3.8)),
        ("softmax", "center", SSD, "mean", (0.0, -0.9, 0.9)),
        ("softmax", "center", SSD, "mean_of_pairs", (0.0, -0.9, 1.0)),
        ("plain", "softmax", SSD, "mean", (1.5, 0.2, 2.9)),
        ("plain", "softmax", SSD, "mean_of_pairs", (1.5, 0.1, 2.9)),
    ],
)
def test_the_means_are_the_referees(first, second, names, of, expected):
    """Each file a validation set of its own, as the referee takes them."""
    found = getattr(together(first, second, names).pooled["AP"], of)
    assert [100 * x for x in found[:3]] == pytest.approx(expected, abs=0.051)


def test_the_referee_takes_six_settings_as_independent():
    settings = together("plain", "center", f"{FIVE} rcnn_40classes").settings["AP"]
    means = [100 * np.mean(setting.values) for setting in settings.values()]
    found = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (np.mean(means), *found) == pytest.approx((1.8, 0.15, 3.5), abs=0.051)


def test_compare_takes_a_wider_interval():
    from intervals import images_error, pair_of

    pair = pair_of(STUDY / "rcnn_200.json", "plain", "center")
    found = paired_difference(np.zeros(5), pair.values["AP"], images_error(pair), 200)
    assert found.joint == pytest.approx((1.1, 3.5), abs=0.051)  # 1.3 to 3.3 over seeds and images


def test_what_shows_the_referees_rows_is_there():
    text = (STUDY / "referee.md").read_text()
    places = dict(re.findall(r"^\[(\w+)\]: (\S+)$", text, re.MULTILINE))
    rows = re.findall(r"^\| \d+ \|.*$", text, re.MULTILINE)
    assert len(rows) == 19 and all("[" in row.split("|")[-2] for row in rows)
    assert set(re.findall(r"\[(test_\w+)\]", text)) == places.keys()
    linked = re.findall(r"\]\(([^)#]+)", text)
    assert all((STUDY / place).exists() for place in [*places.values(), *linked])


def together(first, second, names):
    files = [str(STUDY / f"{name}.json") for name in names.split()]
    (pair,) = pooled_pairs(files, (first, second), [])
    return pair
