"""`detcenter compare` on real runs of a small recipe, and the groups, seeds and folds behind it."""

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from detcenter.cli import main
from detcenter.errors import ConfigError
from detcenter.evaluation import coco_metrics, load_detections
from detcenter.recipe.config import CenterConfig, Config, LossConfig, config_from_dict
from detcenter.runs import own_process, side_by_side
from detcenter.runs.lending import borrow, borrowers
from detcenter.runs.measured import MeasuredRun, measured_run, recipe_of
from detcenter.runs.variants import by_recipe, images_of, same_images, scored
from detcenter.training import save_checkpoint
from tests.changed_recipe import changed
from tests.command_line import fails

VARIANTS = ("--set", "plain: center=null", "--set", "center.weight=0.3 center.alpha=0.1")


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory, recipe):
    return changed(recipe, tmp_path_factory.mktemp("recipe"), train={"epochs": 1})


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, one_epoch):
    """Two variants, two seeds, trained side by side, as many as pay."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    args = ["compare", "--config", str(one_epoch), "--seeds", "2", "--jobs", "auto", *VARIANTS]
    args += ["--output", str(folder), "--train.seed", "7", "--train.warmup_steps", "99"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(args) == 0
    assert out.getvalue().count("--jobs auto: ") == 1
    warning = "train.warmup_steps is 99, but the training has"
    assert out.getvalue().count(warning) == 1
    assert all(warning in (run / "log.txt").read_text() for run in runs_in(folder))
    return folder, args


def runs_in(folder):
    return sorted(path.parent for path in folder.glob("*/seed_*/results.json"))


def test_what_it_leaves(comparison):
    folder, _ = comparison
    names = ["plain", "center.weight=0.3_center.alpha=0.1"]
    assert {str(run.relative_to(folder)) for run in runs_in(folder)} == {
        f"{name}/seed_{seed}" for name in names for seed in (7, 8)
    }
    config = recipe_of(folder / names[1] / "seed_8")
    assert (config.train.seed, config.center.weight, config.center.alpha) == (8, 0.3, 0.1)
    assert recipe_of(folder / names[0] / "seed_7").center is None
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")

    values = json.loads((folder / "compare.json").read_text())
    for variant, name in zip(values["variants"], names, strict=True):
        results = [
            json.loads((folder / name / f"seed_{seed}" / "results.json").read_text())
            for seed in (7, 8)
        ]
        assert variant["seeds"] == [7, 8]
        for key in ("AP", "AP50", "AP75"):
            assert variant[key]["values"] == pytest.approx([r[key] for r in results])
        assert variant["step_seconds"]["mean"] > 0 and variant["memory_mib"]["mean"] > 100
        assert variant["own_ratio"]["mean"] > 0
    assert values["variants"][0]["term_ratio"] is None
    (pair,) = values["pairs"]
    first, second = (variant["AP"]["values"] for variant in values["variants"])
    assert pair["AP"]["values"] == pytest.approx(np.subtract(second, first).tolist())
    assert pair["first"] == "plain" and pair["seeds"] == [7, 8]
    assert values["vary"] is None
    assert list(values["validation"]) == ["7", "8"]
    assert len(set(values["validation"].values())) == 1


def test_finished_runs_are_not_repeated(comparison, capsys):
    folder, args = comparison
    before = {run: (run / "last.pth").stat().st_mtime_ns for run in runs_in(folder)}
    values = (folder / "compare.json").read_text()
    assert main(args) == 0
    assert "4 of 4 runs are done" in capsys.readouterr().out
    assert {run: (run / "last.pth").stat().st_mtime_ns for run in runs_in(folder)} == before
    assert (folder / "compare.json").read_text() == values


def test_what_is_measured_is_the_last_epoch(comparison):
    folder, _ = comparison
    run = runs_in(folder)[0]
    kept = json.loads((run / "measured.json").read_text())
    annotations, detections = load_detections(run / "detections.npz")
    measured = measured_run(run)
    ap = coco_metrics(annotations, detections, measured.classes)["AP"]
    assert ap == pytest.approx(json.loads((run / "results.json").read_text())["AP"])
    (run / "detections.npz").unlink()
    (run / "measured.json").unlink()
    again = measured_run(run)
    assert measured_run(run).own_ratio == pytest.approx(kept["own"], rel=1e-4)
    for a, b in zip(detections, again.detections, strict=True):
        np.testing.assert_allclose(a["boxes"], b["boxes"], atol=1e-3)


def test_runs_by_their_folders(comparison, tmp_path, capsys):
    folder, _ = comparison
    runs = map(str, runs_in(folder))
    assert main(["compare", "--runs", *runs, "--output", str(tmp_path / "out")]) == 0
    values = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert {variant["name"] for variant in values["variants"]} == {
        "center=null",
        "center.weight=0.3",
    }
    assert "cannot be told: AP " in capsys.readouterr().out


def test_comparisons_put_together(comparison, tmp_path, capsys):
    folder, _ = comparison
    (tmp_path / "again").mkdir()
    again = shutil.copy(folder / "compare.json", tmp_path / "again")
    args = ["compare", "--pool", str(folder), again, "--output", str(tmp_path / "out")]
    assert main(args) == 0
    printed = capsys.readouterr().out
    assert "mean of 2 settings" in printed and "all settings are measured on the same" in printed
    (pair,) = json.loads((tmp_path / "out" / "pool.json").read_text())["pairs"]
    (compared,) = json.loads((folder / "compare.json").read_text())["pairs"]
    assert pair["AP"]["mean"]["mean"] == pytest.approx(compared["AP"]["mean"])
    assert [setting["seeds"] for setting in pair["AP"]["settings"]] == [[7, 8], [7, 8]]


def test_another_recipe_in_the_same_folder(comparison, capsys):
    _, args = comparison
    line = fails(capsys, *args, "--train.lr", "0.5")
    assert "train.lr is 0.5" in line and "seed_7" in line
    line = fails(capsys, *args, "--evaluation.max_detections", "300")
    assert "evaluation.max_detections is 300, but the run was measured with 100" in line


def test_a_failed_run_is_named_and_the_rest_goes_on(comparison, tmp_path, forked, capsys):
    folder, args = comparison
    shutil.copytree(folder, tmp_path / "out")
    broken = tmp_path / "out" / "plain" / "seed_9"
    broken.mkdir()
    (broken / "last.pth").write_bytes(b"no checkpoint")
    others = ["--seeds", "3", "--output", str(tmp_path / "out")]
    assert main(replaced(args, others)) == 2
    printed, line = capsys.readouterr()
    assert "1 of 6 runs failed" in line and str(broken) in line and "log.txt" in line
    values = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [variant["seeds"] for variant in values["variants"]] == [[7, 8], [7, 8, 9]]
    assert values["pairs"][0]["seeds"] == [7, 8]
    (failure,) = values["failures"]
    assert (failure["variant"], failure["unit"], failure["finished"]) == ("plain", 9, False)
    assert failure["run"] == str(broken) and "not a readable" in failure["reason"]
    assert "no verdict, as failures differ, 0 here and 1 of the baseline" in printed
    assert " 2 of 3 " in printed and f"failed: {broken}: " in printed


def test_a_run_that_failed_once_stays_known(comparison, tmp_path, capsys):
    folder, args = comparison
    shutil.copytree(folder, tmp_path / "out")
    run = tmp_path / "out" / "plain" / "seed_7"
    (run / "failed.txt").write_text("NaN (see log.txt)\nout of memory (see log.txt)\n")
    assert main(replaced(args, ["--output", str(tmp_path / "out")])) == 0
    said = f"failed: {run}: out of memory (see log.txt); it finished when tried again"
    assert said in capsys.readouterr().out
    values = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert values["failures"][0]["finished"] and values["variants"][0]["failed"] == []
    runs = map(str, runs_in(tmp_path / "out"))
    assert main(["compare", "--runs", *runs, "--output", str(tmp_path / "again")]) == 0
    assert said in capsys.readouterr().out


def test_baseline_and_equivalence_reach_the_sentence(comparison, tmp_path, capsys):
    folder, args = comparison
    name = "center.weight=0.3 center.alpha=0.1"
    assert main([*args, "--baseline", name, "--equivalence", "99"]) == 0
    said = capsys.readouterr().out
    assert f"plain against {name}: no effect of 99 points or more: AP " in said
    assert "over 2 seeds and 4 images" in said
    values = json.loads((folder / "compare.json").read_text())
    assert values["baseline"] == name and values["equivalence"] == 0.99 and values["images"] == 4
    runs = map(str, runs_in(folder))
    line = fails(capsys, "compare", "--runs", *runs, "--baseline", "plain")
    assert "--baseline plain: no variant is called that; known: center.weight=0.3" in line


def replaced(args, others):
    """The command line with other values of these options."""
    new = dict(zip(others[::2], others[1::2], strict=True))
    return [new.get(before, arg) for before, arg in zip(["", *args], args, strict=False)]


def test_stopped_runs_end_with_it(one_epoch, tmp_path, monkeypatch, capsys):
    started = []
    start = side_by_side.started

    def remembered(*args):
        started.append(start(*args))
        return started[-1]

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side, "started", remembered)
    monkeypatch.setattr(side_by_side, "wait", interrupted)
    args = ["compare", "--config", str(one_epoch), *VARIANTS, "--output", str(tmp_path / "out")]
    assert main(args) == 130
    assert len(started) == 1 and not started[0].process.is_alive()
    assert "the same command goes on from there" in capsys.readouterr().err


BAD = [
    ((), "--config FILE or --runs"),
    (("--config", "RECIPE"), "--set is due twice"),
    (("--config", "RECIPE", "--set", "center=null"), "--set is due twice"),
    (("--config", "RECIPE", *VARIANTS, "--seeds", "1"), "a single seed"),
    (("--config", "RECIPE", *VARIANTS, "--folds", "1"), "--folds 1"),
    (("--config", "RECIPE", *VARIANTS, "--folds", "99"), "data.folds is 99"),
    (("--config", "RECIPE", *VARIANTS, "--jobs", "0"), "--jobs 0"),
    (
        ("--config", "RECIPE", *VARIANTS, "--jobs", "many"),
        "--jobs many: a number of runs at a time, from 1, or auto",
    ),
    (("--config", "RECIPE", *VARIANTS, "--set", "center"), "KEY=VALUE"),
    (("--config", "RECIPE", *VARIANTS, "--set", ""), "is empty"),
    (("--config", "RECIPE", *VARIANTS, "--set", "data.root=O'B"), "No closing quotation"),
    (("--config", "RECIPE", *VARIANTS, "--set", "Plain: center.alpha=0"), "share the folder"),
    (("--config", "RECIPE", *VARIANTS, "--set", "..: center.alpha=0"), "give it a name"),
    (("--config", "RECIPE", *VARIANTS, "--data.folds", "2"), "compare --folds instead"),
    (("--config", "RECIPE", *VARIANTS, "--baseline", "plan"), "plan: no variant is called that"),
    (("--config", "RECIPE", *VARIANTS, "--equivalence", "0"), "--equivalence 0: points of AP"),
    (("--runs", "RUN", "--train.lr", "0.1"), "keys of a recipe out"),
    (("--config", "RECIPE", *VARIANTS, "--set", "centre.weight=1"), "center.weight"),
    (("--config", "RECIPE", *VARIANTS, "--set", "train.seed=4"), "train.seed"),
    (
        ("--config", "RECIPE", *VARIANTS, "--set", "evaluation.max_detections=9"),
        "evaluation.max_detections 9 is not for a variant",
    ),
    (("--config", "RECIPE", *VARIANTS, "--set", "plain: recipe"), "plain is there twice"),
    (("--config", "RECIPE", "--set", "recipe", "--set", "center.weight=0.1"), "the same recipe"),
    (("--config", "RECIPE", *VARIANTS, "--set", "data.val=train"), "different validation images"),
    (("--config", "RECIPE", *VARIANTS, "--vary", "data.digits.seed=4"), "two or more different"),
    (("--config", "RECIPE", *VARIANTS, "--vary", "train.seed=1..4"), "--vary takes a key"),
    (("--config", "RECIPE", *VARIANTS, "--vary", "data.sed=1,2"), "unknown --data.sed"),
    (
        ("--config", "RECIPE", *VARIANTS, "--vary", "center.alpha=0.1,0.2"),
        "center.alpha None is not for a variant",
    ),
    (("--config", "RECIPE", *VARIANTS, "--vary", "train.lr=0.01,1e-2"), "0.01 is there twice"),
    (("--config", "RECIPE", *VARIANTS, "--vary", "data.root=a/b,A_b"), "would share the folder"),
    (("--config", "RECIPE", *VARIANTS, "--vary", "seeds=1,2"), "no such key"),
    (("--config", "RECIPE", *VARIANTS, "--vary", "model.strides=[8],[16]"), "values are lists"),
    (("--config", "RECIPE", *VARIANTS, "--vary", "center.vote=0.2,0.5"), "recipe of plain has"),
    (("--runs", "RUN", "--config", "RECIPE"), "leave --config"),
    (("--config", "RECIPE", *VARIANTS, "--set", "many: seeds=9"), "not 'seeds=9'"),
    (("--runs", "RUN", "--folds", "2"), "--folds"),
    (("--runs", "RUN", "--seeds", "2"), "--seeds"),
    (("--runs", "RUN"), "single one"),
    (("--runs", "RUN", "FOLDER"), "is no run"),
]


@pytest.mark.parametrize("args, said", BAD)
def test_one_line_for_bad_input(args, said, recipe, run, tmp_path, capsys):
    words = {"RECIPE": str(recipe), "RUN": str(run), "FOLDER": str(tmp_path)}
    for word, path in words.items():
        args = [arg.replace(word, path) for arg in args]
    output = tmp_path / "out"
    assert said in fails(capsys, "compare", *args, "--output", output)
    assert not output.exists()


def test_an_unfinished_run(run, tmp_path, capsys):
    for name in ("config.yaml", "metrics.csv"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    line = fails(capsys, "compare", "--runs", run, tmp_path)
    assert str(tmp_path) in line and "2 of 2 epochs" in line and "--resume" in line


def measured(
    seed=0, fold=0, folds=None, center=None, boxes=((0, 0, 9, 9),), name="a.jpg", hit=True
):
    config = Config(center=center)
    config.train.seed, config.data.fold, config.data.folds = seed, fold, folds
    boxes = np.array(boxes, dtype=np.float32)
    count = len(boxes)
    truth = {
        "image_id": fold + 1,
        "path": Path(name),
        "boxes": boxes,
        "labels": np.ones(count, dtype=np.int64),
        "iscrowd": np.zeros(count, dtype=bool),
        "difficult": np.zeros(count, dtype=bool),
        "area": np.full(count, 81.0),
    }
    found = {
        "boxes": boxes if hit else boxes + 100,
        "scores": np.full(count, 0.5 if hit else 0.9),
        "labels": np.ones(count, dtype=np.int64),
    }
    return MeasuredRun(config, ["x"], [truth], [found], 0.5 + fold, None, None, None)


def test_folds_are_pooled_before_ap():
    # One fold finds its box with score 0.5, the other misses with 0.9: pooled, the precision at
    # the one recall that is reached (0.5) is a half; a mean over folds would give (1 + 0) / 2.
    runs = {
        Path(f"{seed}/{fold}"): measured(seed, fold, 2, name=f"{fold}.jpg", hit=fold == 0)
        for seed in (0, 1)
        for fold in (1, 0)
    }
    (variant,) = scored({"only": runs})
    assert list(variant.seeds) == [0, 1] and images_of({"only": runs}) == 2
    assert variant.seeds[0].ap["AP"] == pytest.approx(0.5 * 51 / 101)
    assert variant.seeds[0].costs["own_ratio"] == 1.0


def test_one_image_says_nothing_about_others():
    with pytest.raises(ConfigError, match="out/a: one validation image says nothing"):
        images_of({"only": {Path("out/a"): measured()}})


def test_data_sets_are_paired_and_their_seeds_averaged():
    runs = {}
    for unit, hits in (("one", (True, False)), ("two", (True, True))):
        for seed, hit in enumerate(hits):
            run = measured(seed, name=f"{unit}.jpg", hit=hit)
            run.config.data.root = unit
            runs[Path(f"{unit}/{seed}")] = run
    (variant,) = scored({"only": runs}, "data.root")
    assert [variant.seeds[unit].ap["AP"] for unit in ("one", "two")] == pytest.approx([0.5, 1])
    for name in ("AP", "AP50", "AP75"):
        assert variant.seeds["one"].resampled[name] == pytest.approx(np.full(1000, 0.5))


def test_values_that_share_their_images_are_like_seeds():
    runs = {}
    for rate in (0.1, 0.2):
        for seed, fold in ((0, 0), (0, 1), (1, 0), (1, 1)):
            run = measured(seed, fold, 2, name=f"{fold}.jpg", hit=fold == 0)
            run.config.train.lr = rate
            runs[Path(f"{rate}/{seed}/{fold}")] = run
    (variant,) = scored({"only": runs}, "train.lr")
    assert same_images([variant]) and images_of({"only": runs}, "train.lr") == 2
    first, second = variant.seeds.values()
    np.testing.assert_array_equal(first.resampled["AP"], second.resampled["AP"])
    runs[Path("0.2/1/0")].annotations[0]["path"] = Path("other.jpg")
    runs[Path("0.2/0/0")].annotations[0]["path"] = Path("other.jpg")
    assert not same_images(scored({"only": runs}, "train.lr"))


def test_values_that_share_some_of_their_images(caplog):
    runs = {}
    for fraction, names in ((0.1, ("a", "b")), (0.2, ("b", "c"))):
        for fold, name in enumerate(names):
            run = measured(0, fold, 2, name=f"{name}.jpg")
            run.config.data.root = str(fraction)
            runs[Path(f"{fraction}/{fold}")] = run
    scored({"only": runs}, "data.root")
    assert "data.root: 1 of 3 validation images belong to several values" in caplog.text
    caplog.clear()
    for fold, name in enumerate("de"):
        runs[Path(f"0.2/{fold}")].annotations[0]["path"] = Path(f"{name}.jpg")
    scored({"only": runs}, "data.root")
    assert not caplog.text


def test_data_sets_of_their_own(tmp_path, one_epoch, forked, capsys):
    data = {"format": "digits", "root": str(tmp_path / "data"), "digits": {"train": 8, "val": 2}}
    recipe = changed(one_epoch, tmp_path, data=data)
    args = ["compare", "--config", str(recipe), *VARIANTS, "--output", str(tmp_path / "out")]
    args += ["--vary", "data.digits.seed=3..4", "--seeds", "1", "--jobs", "2"]
    assert main(args) == 0
    units = ["data.digits.seed=3", "data.digits.seed=4"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == units
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    results = [
        json.loads((tmp_path / "out" / "plain" / unit / "seed_0" / "results.json").read_text())
        for unit in units
    ]
    assert written["variants"][0]["seeds"] == [3, 4]
    assert written["variants"][0]["AP"]["values"] == pytest.approx([x["AP"] for x in results])
    assert (written["vary"], written["training_seeds"]) == ("data.digits.seed", [0])
    assert "have the same training seeds (0), which" in capsys.readouterr().out
    assert list(written["validation"]) == ["3", "4"]
    assert len(set(written["validation"].values())) == 2


def test_variants_of_the_vote_share_their_training(one_epoch, tmp_path, forked, capsys):
    out = tmp_path / "out"
    args = ["compare", "--config", str(one_epoch), "--seeds", "2", "--output", str(out)]
    args += ["--center.features", "embedding", "--set", "silent: center.vote=null"]
    args += ["--set", "voting: center.vote=0.9", "--set", "heavier: center.weight=0.3"]
    assert main(args) == 0
    assert "differ in the vote alone: 2" in capsys.readouterr().out
    of = {
        name: torch.load(out / name / "seed_0" / "last.pth", weights_only=True)
        for name in ("silent", "voting", "heavier")
    }
    equal = {
        name: all(torch.equal(value, of["silent"]["model"][key]) for key, value in weights.items())
        for name, weights in ((name, of[name]["model"]) for name in ("voting", "heavier"))
    }
    assert equal == {"voting": True, "heavier": False}
    assert [of[name]["config"]["center"]["vote"] for name in of] == [None, 0.9, None]
    # What was evaluated is the model that votes.
    file = tmp_path / "found.json"
    checkpoint = str(out / "silent" / "seed_0" / "last.pth")
    asked = ["--checkpoint", checkpoint, "--center.vote", "0.9", "--detections", str(file)]
    assert main(["evaluate", *asked]) == 0
    expected = sorted(row["score"] for row in json.loads(file.read_text()))
    scores = {
        name: np.sort(np.concatenate([image["scores"] for image in found]))
        for name in ("silent", "voting")
        for _, found in [load_detections(out / name / "seed_0" / "detections.npz")]
    }
    np.testing.assert_allclose(scores["voting"], expected, atol=1e-5)
    assert not np.allclose(scores["silent"][-20:], scores["voting"][-20:], atol=1e-3)
    # A run of them that is gone takes its weights again; one of which none are left is trained.
    shutil.rmtree(out / "voting" / "seed_1")
    (out / "voting" / "seed_0" / "results.json").unlink()
    assert main(args) == 0
    assert "differ in the vote alone: 1" in capsys.readouterr().out


def test_without_weights_to_take(one_epoch, tmp_path, forked, capsys):
    """A vote that cannot be had is the fault of its variant alone, wherever that stands."""
    out = tmp_path / "out"
    args = ["compare", "--config", str(one_epoch), "--seeds", "2", "--output", str(out)]
    args += ["--center.features", "embedding", "--center.embedding_weight", "0"]
    args += ["--baseline", "silent", "--set", "soft: center.vote=0.5", "--set", "silent: recipe"]
    args += ["--set", "weak: center.weight=0.2"]
    line = fails(capsys, *args)
    assert "2 of 6 runs failed" in line
    assert line.count("log.txt") == 1 and "2 runs say so" in line  # one cause, one line
    values = json.loads((out / "compare.json").read_text())
    assert [variant["name"] for variant in values["variants"]] == ["silent", "weak"]
    assert {Path(failure["run"]).parent.name for failure in values["failures"]} == {"soft"}


def test_who_lends_weights(tmp_path):
    def run(name, seed=0, **center):
        config = Config()
        config.center = CenterConfig(**center)
        config.train.seed, config.output = seed, str(tmp_path / name)
        return tmp_path / name, config

    runs = dict(
        [
            run("strong", vote=0.5),
            run("silent"),
            run("weak", vote=0.3),
            run("other_seed", seed=1, vote=0.3),
            run("other_weight", weight=0.7),
        ]
    )
    strong, silent, weak, *others = runs
    assert borrowers(runs, runs) == {silent: [strong, weak], weak: [strong, silent]}
    silent.mkdir()
    save_checkpoint(silent / "last.pth", **checkpoint_of(runs[silent], epoch=4))
    found = borrowers(runs, {*runs} - {silent})
    assert found == {strong: [silent, weak], weak: [strong, silent]}
    borrow(strong, runs[strong], found[strong])
    assert not strong.exists()  # the training was not complete
    save_checkpoint(
        silent / "last.pth",
        silent / "previous.pth",
        **checkpoint_of(runs[silent], epoch=runs[silent].train.epochs),
    )
    for path in found:
        borrow(path, runs[path], found[path])
        lent = torch.load(path / "last.pth", weights_only=True)
        assert config_from_dict(lent["config"]) == runs[path]
        assert lent["rows"] == [{"epoch": "1", "train/loss": "2"}] and "images_a_step" not in lent
    (silent / "last.pth").write_bytes(b"damaged")
    (weak / "last.pth").unlink()
    borrow(weak, runs[weak], [silent, strong])  # what is damaged lends nothing
    assert (weak / "last.pth").exists()
    for path in (silent, weak):
        (path / "results.json").touch()
    (weak / "last.pth").unlink()
    assert borrowers(runs, [weak]) == {}  # it was evaluated with its own weights


def checkpoint_of(config, epoch):
    return {
        "model": {},
        "builder": {},
        "classes": [],
        "config": dataclasses.asdict(config),
        "epoch": epoch,
        "images_a_step": 8,
        "rows": [{"epoch": "1", "train/loss": "2", "AP": "3"}],
    }


def test_the_fingerprint_of_validation_data():
    def of(**changes):
        (variant,) = scored({"only": {Path("a"): measured(**changes)}})
        return variant.seeds[changes.get("seed", 0)].validation

    truth = [["x"], [["a.jpg", [[0.0, 0.0, 9.0, 9.0]], [1]]]]
    assert of() == hashlib.sha256(json.dumps(truth).encode()).hexdigest()[:12]
    assert of(seed=3, hit=False) == of()
    assert len({of(), of(name="b.jpg"), of(boxes=((0, 0, 9, 8),))}) == 3


def test_a_missing_fold():
    with pytest.raises(ConfigError, match=r"seed 0 lacks the folds \[1\]"):
        scored({"only": {Path("out/a"): measured(0, 0, 2)}})


def test_different_data_is_refused():
    runs = {Path("a"): measured(0), Path("b"): measured(1, boxes=((0, 0, 9, 8),))}
    with pytest.raises(ConfigError, match="b and a were measured on different images"):
        scored({"only": runs})


def test_the_same_seed_twice():
    with pytest.raises(ConfigError, match="b and a are the same recipe with the same seed"):
        scored({"only": {Path("a"): measured(0), Path("b"): measured(0)}})


def test_other_limits_are_refused_and_counted():
    runs = {Path(name): measured(seed, boxes=[(0, 0, 9, 9)] * 3) for seed, name in enumerate("ab")}
    for run in runs.values():
        run.config.evaluation.max_detections = 1
    # one of three is counted: precision 1 up to recall 1/3
    (variant,) = scored({"only": runs})
    assert [seed.ap["AP"] for seed in variant.seeds.values()] == pytest.approx([34 / 101] * 2)
    assert variant.seeds[0].resampled["AP"] == pytest.approx(34 / 101)
    runs[Path("b")].config.evaluation.max_detections = 300
    assert list(by_recipe(runs)) == ["recipe"]
    with pytest.raises(ConfigError, match=r"is 1 in a and 300 in b; .* --output a --resume"):
        scored({"only": runs})


def test_names_say_in_what_recipes_differ():
    def names(*centers):
        runs = {Path(str(i)): measured(center=center) for i, center in enumerate(centers)}
        return list(by_recipe(runs))

    assert names(None, CenterConfig(weight=0.3)) == ["center=null", "center.weight=0.3"]
    assert names(None, CenterConfig(weight=0.3), CenterConfig(weight=1.0, alpha=0.1)) == [
        "center=null",
        "center.weight=0.3 center.alpha=0.5",
        "center.weight=1 center.alpha=0.1",
    ]
    assert names(CenterConfig(), CenterConfig()) == ["recipe"]


def test_trackers_tell_no_variants_apart():
    runs = {Path(name): measured() for name in ("plain", "watched")}
    runs[Path("watched")].config.train.trackers = ["tensorboard", "wandb"]
    assert list(by_recipe(runs)) == ["recipe"]


def test_no_two_variants_share_a_name():
    runs = {Path(str(i)): measured(center=CenterConfig(weight=0.1)) for i in range(3)}
    runs[Path("1")].config.terms["triplet"] = LossConfig(weight=0.2)
    runs[Path("2")].config.center.weight = 0.1 + 1e-9
    groups = by_recipe(runs)
    assert list(groups) == [
        "center.weight=0.1",
        "center.weight=0.1 terms.triplet.weight=0.2",
        "center.weight=0.1 (3)",
    ]
    assert [list(group) for group in groups.values()] == [[Path(str(i))] for i in range(3)]


def test_runs_on_other_data_are_not_taken_for_this(comparison, tmp_path, capsys):
    _, args = comparison
    line = fails(capsys, *args, "--data.root", tmp_path)
    assert "data.root" in line and "was trained on" in line


def test_gpus_and_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(own_process, "cores", lambda: 16)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert own_process.shares(2, 4) == {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "5"}
    assert own_process.shares(0, 1) == {}


def test_a_backend_that_is_not_installed_is_one_line(run, tmp_path, monkeypatch, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    recipe = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(recipe.replace("backend: pycocotools", "backend: hotcoco"))
    there = {"matplotlib": True}
    monkeypatch.setattr("detcenter.recipe.extras.find_spec", there.get)
    assert "needs hotcoco: pip install" in fails(capsys, "compare", "--runs", run, other)
