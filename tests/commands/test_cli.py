"""The command line on a small data set, through all three commands."""

import contextlib
import csv
import io
import json
import re
import runpy
import shlex
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image

from detcenter.cli import main
from detcenter.data import VOCDataset, make_digits
from detcenter.runs import run as module
from tests.command_line import fails

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_a_run_leaves_everything_in_its_folder(run):
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "best.pth",
        "config.yaml",
        "detections.png",
        "last.pth",
        "metrics.csv",
        "results.json",
        "tensorboard",
    }
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[0]["train/loss_center"]) > 0 and float(rows[0]["train/classification"]) > 0
    results = json.loads((run / "results.json").read_text())
    assert results["AP"] == pytest.approx(float(rows[-1]["AP"]), abs=1e-5)
    assert list(results["AP_by_class"]) == [str(digit) for digit in range(10)]
    assert list((run / "tensorboard").glob("events*"))
    assert np.asarray(Image.open(run / "detections.png")).std() > 10
    assert yaml.safe_load((run / "config.yaml").read_text())["center"]["weight"] == 0.1


def test_a_checkpoint_carries_builder_classes_and_config(run):
    checkpoint = torch.load(run / "last.pth", weights_only=True)
    assert checkpoint["builder"]["backbone"] == "shufflenet_v2_x0_5"
    assert checkpoint["builder"]["num_classes"] == 11
    assert checkpoint["classes"] == [str(digit) for digit in range(10)]
    assert checkpoint["config"]["train"]["epochs"] == 2
    assert any(name.startswith("box_terms.center") for name in checkpoint["model"])


@pytest.fixture(scope="module")
def stopped(recipe, tmp_path_factory):
    """Stop a run with Ctrl-C after its first epoch; its folder, and what was said."""

    def stop_after_one(self, epoch, *args):
        report(self, epoch, *args)
        signal.raise_signal(signal.SIGINT)

    report = module.Run._report
    folder = tmp_path_factory.mktemp("runs") / "stopped run"
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stderr(said):
        patched.setattr(module.Run, "_report", stop_after_one)
        assert main(["train", "--config", str(recipe), "--output", str(folder)]) == 130
    checkpoint = torch.load(folder / "last.pth", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["step"]) == (1, 1)  # the step was finished
    return folder, said.getvalue()


def test_a_run_is_not_continued_with_other_classes(recipe, stopped, data, tmp_path, capsys):
    root = tmp_path / "letters"
    shutil.copytree(data, root)
    for path in (root / "Annotations").iterdir():
        path.write_text(re.sub(r"<name>(.)</name>", r"<name>letter \1</name>", path.read_text()))
    args = ("train", "--config", recipe, "--output", stopped[0], "--resume", "--data.root", root)
    assert "started with the classes ['0', '1'" in fails(capsys, *args)


def test_a_resumed_run_ends_as_one_that_was_not_stopped(run, recipe, stopped, capsys):
    folder, said = stopped
    arguments = ["train", "--config", str(recipe), "--output", str(folder), "--resume"]
    assert f"detcenter {shlex.join(arguments)}" in said
    line = fails(capsys, *arguments, "--data.keep_difficult", "true")
    assert "data.keep_difficult is True, but the run was started with False" in line
    assert main(arguments) == 0
    ends = [torch.load(f / "last.pth", weights_only=True) for f in (run, folder)]
    assert all(torch.equal(x, ends[1]["model"][name]) for name, x in ends[0]["model"].items())
    assert ends[0]["best"] == ends[1]["best"]
    assert (run / "results.json").read_text() == (folder / "results.json").read_text()
    with (folder / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_overwrite_deletes_the_run_and_nothing_before_all_is_well(run, recipe, tmp_path, capsys):
    folder = tmp_path / "again"
    shutil.copytree(run, folder)
    (folder / "notes.txt").touch()
    args = ["train", "--config", str(recipe), "--output", str(folder), "--overwrite"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    fails(capsys, *args, "--data.root", tmp_path / "typo")
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main([*args, "--train.epochs", "1"]) == 0
    assert torch.load(folder / "last.pth", weights_only=True)["epoch"] == 1
    assert (folder / "notes.txt").exists()
    assert len((folder / "metrics.csv").read_text().splitlines()) == 2


def test_a_second_ctrl_c_does_not_wait_for_the_step(recipe, tmp_path, monkeypatch, capsys):
    def stop(*args):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(module, "train_step", stop)
    assert main(["train", "--config", str(recipe), "--output", str(tmp_path / "a b")]) == 130
    assert "nothing to continue from" in capsys.readouterr().err


@pytest.fixture
def another_precision():
    """accelerate keeps the precision of a process's first run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_the_baseline_trains_without_the_term(recipe, tmp_path, another_precision, monkeypatch):
    monkeypatch.setattr("detcenter.runs.preparation.computes_bf16", lambda device: True)
    folder = tmp_path / "baseline"
    args = ["--config", str(recipe), "--output", str(folder), "--center", "null"]
    options = ["--train.mixed_precision", "bf16", "--train.channels_last", "true"]
    options += ["--evaluation.backend", "hotcoco"]
    assert main(["train", *args, *options, "--train.epochs", "1", "--data.workers", "1"]) == 0
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert "classification" in header and "loss_center" not in header
    checkpoint = torch.load(folder / "last.pth", weights_only=True)
    assert not any("box_terms" in name for name in checkpoint["model"])
    # evaluation runs in float32 whatever the training did
    numbers = tmp_path / "numbers.json"
    assert main(["evaluate", "--checkpoint", f"{folder}/last.pth", "--json", str(numbers)]) == 0
    ours, theirs = (json.loads(x.read_text()) for x in (numbers, folder / "results.json"))
    for metrics in (ours, theirs):
        del metrics["curves_by_class"]  # with scores, which another memory format rounds
    thresholds, expected = (metrics.pop("best_by_class") for metrics in (ours, theirs))
    assert ours == theirs and thresholds.keys() == expected.keys()
    for name, best in expected.items():
        score = best["threshold"] and pytest.approx(best["threshold"], rel=1e-6)
        assert thresholds[name] == best | {"threshold": score}


def test_evaluate_gives_the_numbers_of_the_run(run, tmp_path, capsys):
    file = tmp_path / "numbers" / "results.json"
    args = ["--checkpoint", str(run / "last.pth"), "--json", str(file)]
    for backend in ("pycocotools", "hotcoco"):
        assert main(["evaluate", *args, "--evaluation.backend", backend]) == 0
        assert json.loads(file.read_text()) == json.loads((run / "results.json").read_text())
        printed = capsys.readouterr().out
        assert "AP50" in printed and "nothing there" in printed
    assert main(["evaluate", *args, "--evaluation.score", "0.0625"]) == 0
    assert json.loads(file.read_text())["confusion"]["score"] == 0.0625


def test_evaluate_takes_other_data_and_writes_coco_results(run, data, tmp_path, capsys):
    results = tmp_path / "detections.json"
    args = ["--checkpoint", str(run / "last.pth"), "--data.val", "train"]
    assert main(["evaluate", *args, "--detections", str(results)]) == 0
    assert "mAP_12" in capsys.readouterr().out
    rows = json.loads(results.read_text())
    assert rows and {row["image_id"] for row in rows} <= set(range(1, 9))
    assert {row["category_id"] for row in rows} <= set(range(1, 11))
    assert all(row["bbox"][0] + row["bbox"][2] <= 160.01 for row in rows)
    assert max(row["bbox"][0] + row["bbox"][2] for row in rows) > 64  # not in the model's pixels


def test_detections_in_a_file_have_the_numbers_of_their_checkpoint(run, data, tmp_path, capsys):
    truth, results = tmp_path / "val.json", tmp_path / "detections.json"
    truth.write_text(json.dumps(in_coco_layout(VOCDataset(data, "val"))))
    of_run = {"--checkpoint": run / "last.pth", "--detections": results, "--data.format": "coco"}
    of_run |= {"--data.root": tmp_path, "--data.val": truth.name}
    of_run |= {"--data.val_images": data / "JPEGImages"}
    of_files = {"--predictions": results, "--annotations": truth}
    printed = []
    for name, options in (("run.json", of_run), ("files.json", of_files)):
        args = [str(x) for pair in options.items() for x in pair]
        assert main(["evaluate", *args, "--json", str(tmp_path / name)]) == 0
        printed.append(capsys.readouterr().out)
    assert json.loads(results.read_text())
    numbers = (tmp_path / "files.json").read_text()
    assert numbers == (tmp_path / "run.json").read_text() and printed[0] == printed[1]
    both = ("evaluate", "--checkpoint", run / "last.pth", "--predictions", results)
    assert "--checkpoint is for checkpoints" in fails(capsys, *both, "--annotations", truth)


def in_coco_layout(dataset):
    """Category ids with gaps."""
    boxes = [
        {"image_id": a["image_id"], "category_id": 3 + 2 * int(label),
         "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])]}
        for a in dataset.annotations
        for box, label in zip(a["boxes"], a["labels"], strict=True)
    ]  # fmt: skip
    images = [
        {"id": a["image_id"], "file_name": a["path"].name, "width": a["width"]}
        for a in dataset.annotations
    ]
    categories = [{"id": 3 + 2 * k, "name": name} for k, name in enumerate(dataset.classes, 1)]
    return {"images": images, "annotations": boxes, "categories": categories}


def test_bad_input_is_one_line_and_exit_status_2(run, recipe, data, tmp_path, capsys):
    train = ("train", "--config", recipe, "--output", tmp_path / "new")
    plain = tmp_path / "plain.pth"
    torch.save({"weight": torch.ones(1)}, plain)
    for args, message in (
        (("trian",), "no command 'trian'; did you mean 'train'?"),
        ((*train, "--train.epoch", 3), "'train.epochs'"),
        ((*train, "--train.epochs", "many"), "many"),
        ((*train, "--train.batch_size", 0), "train.batch_size is 0, the least is 1"),
        ((*train, "--model.strides", "[8,16]"), "1 entries for 2 strides"),
        ((*train, "--data.root", tmp_path / "nowhere"), "nowhere' is no folder"),
        ((*train, "--data.train", "nothing"), "nothing"),
        ((*train, "--data.classes", "[cat,dog]"), "faults in 12 files:"),
        ((*train, "--model.num_classes", 3), "model.num_classes is 3, but the data has 10"),
        ((*train, "--model.name", "ssd300_vgg16"), "model.backbone is for model.name: ssd"),
        ((*train, "--model.name", "xyz"), "no model.name 'xyz'; known: ssd, fasterrcnn, "),
        ((*train, "--model.name", "fasterrcn"), "did you mean 'fasterrcnn'?"),
        ((*train, "--model.weights_backbone", plain), "plain.pth: weights of another model"),
        ((*train, "--center.weight", -1), "center: weights are finite and not negative"),
        ((*train, "--resume"), "holds no run"),
        (("train", "--config", recipe, "--output", run), "holds a run already"),
        (
            ("train", "--config", recipe, "--output", run, "--resume", "--train.lr", 9),
            "train.lr is 9.0, but the run was started with 0.01",
        ),
        (("train", "--train.epochs", 3), "--config FILE is missing"),
        ((*train, "--model.backbone", "resnet81"), "model: backbone 'resnet81'"),
        (("evaluate",), "checkpoint"),
        (("evaluate", "--checkpoint", plain), "not a detcenter checkpoint"),
        (("evaluate", "--checkpoint", run / "none.pth"), "no such checkpoint"),
        (("evaluate", "--checkpoint", data), "not a readable checkpoint (a folder"),
        (("train", "--config", recipe, "--output", recipe), "is a file"),
        ((*train, "--train.mixed_precision", "fp16"), "fp16"),
        ((*train, "--train.batch_size", 1), "batch norm cannot learn from one image"),
        ((*train, "--data.format", "coco"), "no annotations of coco found"),
        (("evaluate", "--checkpoint", run / "last.pth", "--data.workers", -1), "the least is 0"),
        (("predict", "--checkpoint", run / "last.pth", recipe), "small.yaml"),
        (("evaluate", "--checkpoint", run / "last.pth", "--data.rot", 1), "'data.root'"),
        (("predict", "--checkpoint", run / "last.pth", tmp_path / "no.jpg"), "no such image"),
        (("predict", "--checkpoint", plain, data / "JPEGImages"), "not a detcenter checkpoint"),
        (("predict", "--checkpoint", run / "last.pth", "--scroe", 1, "x.jpg"), "'score'"),
    ):
        assert message in fails(capsys, *args)
    assert torch.load(run / "last.pth", weights_only=True)["epoch"] == 2  # nothing was lost


def test_a_training_set_without_objects_is_refused_and_a_missing_class_is_named(
    recipe, data, tmp_path, capsys, caplog
):
    root = tmp_path / "digits"
    shutil.copytree(data, root)
    folder = root / "Annotations"
    page = (folder / "train_00001.xml").read_text()
    empty = re.sub(r"<object>.*</object>", "", page, flags=re.DOTALL)
    for path in folder.glob("train_*.xml"):
        path.write_text(empty)
    args = ("train", "--config", recipe, "--data.root", root, "--output", tmp_path / "run")
    assert "has no objects to learn from" in fails(capsys, *args)
    (folder / "train_00001.xml").write_text(page)
    fails(capsys, *args, "--train.batch_size", 1)
    assert "has no object of: " in caplog.text


def test_weights_of_another_architecture_are_refused(run, tmp_path, capsys):
    checkpoint = torch.load(run / "last.pth", weights_only=True)
    checkpoint["builder"]["out_channels"] = 64
    torch.save(checkpoint, tmp_path / "other.pth")
    line = fails(capsys, "evaluate", "--checkpoint", tmp_path / "other.pth")
    assert "its weights are of another model" in line


def test_a_broken_image_stops_the_run_with_its_name(recipe, tmp_path, capsys):
    root = tmp_path / "digits"
    make_digits(root, train=4, val=2)
    image = sorted((root / "JPEGImages").iterdir())[0]
    image.write_bytes(image.read_bytes()[:100])
    args = ("--config", recipe, "--data.root", root, "--output", tmp_path / "run")
    assert image.name in fails(capsys, "train", *args)
    assert not (tmp_path / "run").exists()  # it was found before anything began


def test_a_broken_image_may_be_left_out(recipe, tmp_path, caplog):
    root = tmp_path / "digits"
    make_digits(root, train=4, val=2)
    for image in sorted((root / "JPEGImages").iterdir())[::5]:  # one of each part
        image.write_bytes(image.read_bytes()[:100])
    args = ["--config", str(recipe), "--data.root", str(root), "--output", str(tmp_path / "run")]
    options = ["--data.on_error", "skip", "--train.epochs", "1", "--train.batch_size", "3"]
    assert main(["train", *args, *options]) == 0
    assert "data.train: left out 1 fault in 1 file" in caplog.text
    assert "images left: 3" in caplog.text and "images left: 1" in caplog.text


@pytest.mark.parametrize(
    "tool", ["train", "check", "evaluate", "predict", "features", "sweep", "pack", "init"]
)
def test_the_tools_are_the_same_commands(tool, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{tool}.py", "--help"])
    with pytest.raises(SystemExit) as exited:
        runpy.run_path(str(ROOT / "tools" / f"{tool}.py"), run_name="__main__")
    assert exited.value.code == 0 and f"detcenter {tool}" in capsys.readouterr().out
