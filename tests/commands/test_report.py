import json
import re
import shutil

import numpy as np
import pytest

from detcenter.cli import main
from detcenter.data import make_digits
from detcenter.evaluation import load_detections
from tests.command_line import fails


@pytest.fixture
def copied(run, tmp_path):
    """A run of one's own to break."""
    return shutil.copytree(run, tmp_path / "other")


def shown_by(path):
    text = re.search(r'id="data">(.*?)</script>', path.read_text(), re.S)[1]
    return json.loads(text)


def test_a_page_of_a_run(run, tmp_path, capsys):
    path = tmp_path / "pages" / "report.html"
    assert main(["report", str(run), "--output", str(path)]) == 0
    assert f"{path}: " in capsys.readouterr().out
    page = shown_by(path)
    results = json.loads((run / "results.json").read_text())
    annotations, _ = load_detections(run / "detections.npz")
    assert page["runs"] == [run.name] and page["labels"][-1] == "background"
    assert page["files"] == [annotation["path"].name for annotation in annotations]
    assert page["matrices"] == [results["confusion"]["matrix"]]
    ap = page["charts"]["time-AP"]["data"][0]
    assert ap["y"][-1] == pytest.approx(results["AP"], rel=1e-5) and len(ap["x"]) == 2
    assert set(page["charts"]) >= {
        "errors",
        "compactness",
        "curve-0",
        "confusion-0",
        "features-0-PCA",
    }


def test_features_are_taken_once_and_are_those_of_the_features_command(run, tmp_path):
    assert main(["report", str(run), "--output", str(tmp_path / "a.html")]) == 0
    kept = run / "features_val.npz"
    before = kept.stat().st_mtime_ns
    assert main(["report", str(run), "--output", str(tmp_path / "b.html")]) == 0
    assert kept.stat().st_mtime_ns == before
    last = str(run / "last.pth")
    assert main(["features", "--checkpoint", last, "--output", str(tmp_path / "features")]) == 0
    with np.load(kept) as mine, np.load(tmp_path / "features/features.npz") as theirs:
        assert sorted(mine) == sorted(theirs)
        assert np.array_equal(mine["features"], theirs["features"])
        assert mine["embedded"] and mine["on_sphere"]
    compactness = json.loads((tmp_path / "features/compactness.json").read_text())
    ratios = shown_by(tmp_path / "a.html")["charts"]["compactness"]["data"][0]["x"]
    expected = [row["ratio"] for row in compactness["by_class"].values()]
    assert [None if x is None else pytest.approx(x) for x in ratios] == expected


def test_several_runs_and_the_comparison_above_them(run, tmp_path):
    below = "data.root=c/seed_0/fold_0"  # the deepest that a comparison has
    runs = [shutil.copytree(run, tmp_path / "compared" / name / below) for name in "ab"]
    summary = {"mean": 0.5, "std": 0.1, "values": [0.4, 0.6]}
    numbers = dict.fromkeys(("AP", "AP50", "AP75", "own_ratio", "step_seconds"), summary)
    numbers |= {"term_ratio": None, "memory_mib": None, "AP_by_class": {"0": summary}}
    values = {
        "variants": [
            {"name": f"variant {name}", "seeds": [0], "failed": [1]} | numbers for name in "ab"
        ],
        "pairs": [{"first": "variant a", "second": "variant b", "sentence": "b against a: cannot"}],
        "baseline": "variant a",
        "units": "seeds",
        "images": 4,
        "failures": [],
    }
    (tmp_path / "compared/compare.json").write_text(json.dumps(values))
    path = tmp_path / "report.html"
    assert main(["report", *map(str, runs), "--output", str(path)]) == 0
    assert shown_by(path)["runs"] == [f"a/{below}", f"b/{below}"]
    assert "b against a: cannot" in path.read_text()
    assert "variant a" in path.read_text()


def test_a_data_set_that_was_moved(run, copied, data, tmp_path, capsys):
    recipe = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(recipe.replace(str(data), str(tmp_path / "gone")))
    path = tmp_path / "report.html"
    line = fails(capsys, "report", copied, "--output", path)
    assert "data.root" in line and "gone" in line
    line = fails(capsys, "report", copied, "--output", path, "--root", tmp_path / "typo")
    assert "typo is not there" in line
    assert main(["report", str(copied), "--output", str(path), "--root", str(data)]) == 0


def test_no_run_is_one_line(tmp_path, capsys):
    assert fails(capsys, "report", tmp_path) == (
        f"detcenter report: {tmp_path} is no run: it holds no config.yaml"
    )
    assert "is no run" in fails(capsys, "report", tmp_path / "nothing")
    assert "runs" in fails(capsys, "report")


def test_an_unfinished_run_is_one_line(copied, capsys):
    (copied / "results.json").unlink()
    assert "is unfinished: 2 of 2 epochs" in fails(capsys, "report", copied)


def test_other_wrong_runs_are_one_line(run, copied, recipe, tmp_path, capsys):
    assert "named twice" in fails(capsys, "report", run, run)
    assert "is a folder" in fails(capsys, "report", run, "--output", tmp_path)
    (copied / "results.json").write_text("{")
    assert "results.json is not readable as JSON" in fails(capsys, "report", copied)
    (copied / "results.json").write_text(json.dumps({"AP": 0.5}))
    assert "of an earlier version" in fails(capsys, "report", copied)
    (copied / "config.yaml").write_text("model: [")
    assert "config.yaml is not YAML" in fails(capsys, "report", copied)
    others = tmp_path / "others"
    make_digits(others, train=8, val=4, seed=1)
    elsewhere = tmp_path / "elsewhere"
    command = ["train", "--config", recipe, "--data.root", others, "--train.epochs", 1]
    assert main([*map(str, command), "--output", str(elsewhere)]) == 0
    assert "were measured on different images" in fails(capsys, "report", run, elsewhere)
    assert "is not what" in fails(capsys, "report", run, "--root", others)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("detections.npz", b"PK cut short", "detections.npz is damaged"),
        ("results.json", b"null", "results.json holds no object"),
        (
            "../compare.json",
            b'{"variants": []}',
            "compare.json is not what `detcenter compare` writes",
        ),
        (
            "../compare.json",
            b'{"variants": [{}], "pairs": []}',
            "compare.json is of an earlier version; the same `detcenter compare` writes it again",
        ),
        ("config.yaml", b"", "config.yaml: it holds no recipe of a run"),
        ("config.yaml", b"\xff\xfe\x00", "config.yaml is not YAML"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(copied, capsys, name, content, message):
    (copied / name).write_bytes(content)
    line = fails(capsys, "report", copied)
    assert message in line and str(copied.parent) in line


def test_damaged_features_are_taken_again(copied, tmp_path):
    (copied / "features_val.npz").write_bytes(b"PK cut short")
    assert main(["report", str(copied), "--output", str(tmp_path / "report.html")]) == 0
    with np.load(copied / "features_val.npz") as kept:
        assert len(kept["features"]) == len(kept["labels"]) > 0


def test_features_that_are_not_finite_are_one_line(run, copied, tmp_path, capsys):
    assert main(["report", str(copied), "--output", str(tmp_path / "report.html")]) == 0
    with np.load(copied / "features_val.npz") as arrays:
        kept = dict(arrays)
    kept["features"][0, 0] = np.nan
    np.savez(copied / "features_val.npz", **kept)
    assert f"{copied}: its features are not finite" in fails(capsys, "report", copied)


def test_runs_that_no_page_can_show_together_are_one_line(run, copied, tmp_path, capsys):
    (tmp_path / "alias").symlink_to(run)
    assert "named twice" in fails(capsys, "report", run, tmp_path / "alias")
    recipe = (copied / "config.yaml").read_text()
    changed = recipe.replace("keep_difficult: false", "keep_difficult: true")
    (copied / "config.yaml").write_text(changed)
    assert "the runs differ in data.keep_difficult" in fails(capsys, "report", run, copied)
    (copied / "config.yaml").write_text(recipe)
    results = json.loads((copied / "results.json").read_text())
    results["confusion"]["score"] = 0.3
    (copied / "results.json").write_text(json.dumps(results))
    assert "the runs differ in evaluation.score" in fails(capsys, "report", run, copied)
    results["confusion"]["score"] = 0.5
    for key, value in (("iou", 0.3), ("max_detections", 300)):
        settings = results["settings"] | {key: value}
        (copied / "results.json").write_text(json.dumps(results | {"settings": settings}))
        assert f"the runs differ in evaluation.{key}" in fails(capsys, "report", run, copied)
    # An earlier version wrote no settings, since it had no choice; the next key is looked at.
    earlier = {key: value for key, value in results.items() if key != "settings"}
    (copied / "results.json").write_text(json.dumps(earlier))
    (copied / "config.yaml").write_text(changed)
    assert "the runs differ in data.keep_difficult" in fails(capsys, "report", run, copied)


def test_measuring_an_old_run_again_is_what_the_line_says(copied, tmp_path, capsys):
    (copied / "results.json").write_text(json.dumps({"AP": 0.5}))
    line = fails(capsys, "report", copied)
    command = re.search(r"`detcenter (.*?)`", line)[1].split()
    assert main(command) == 0
    assert main(["report", str(copied), "--output", str(tmp_path / "report.html")]) == 0


def test_a_missing_package_is_one_line(run, monkeypatch, capsys):
    monkeypatch.setattr("detcenter.recipe.extras.find_spec", lambda name: None)
    assert "pip install 'detcenter[report]'" in fails(capsys, "report", run)
