"""`detcenter pack`, and the other commands on what it wrote."""

import json
import sys

import numpy as np
import pytest
import yaml

from detcenter.cli import main
from detcenter.data import LMDBDataset, VOCDataset
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import training_set, validation_set
from tests.changed_recipe import changed
from tests.command_line import fails


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "below" / "digits.lmdb"
    assert main(["pack", "--data.root", str(data), "--output", str(path)]) == 0
    return path


def test_both_parts_of_a_recipe_are_packed(recipe, file, tmp_path, capsys):
    output = tmp_path / "digits.lmdb"
    assert main(["pack", "--output", str(output), f"--config={recipe}"]) == 0
    printed = capsys.readouterr()
    assert "8 images of train, 4 images of val in" in printed.out and "12/12" in printed.err
    assert output.read_bytes() == file.read_bytes()
    shown = yaml.safe_load(printed.out.splitlines()[-1])["data"]
    assert shown == {"format": "lmdb", "root": str(output), "train": "train", "val": "val"}


def test_the_command_line_overrides_the_recipe_and_its_folds_are_left_to_reading(
    recipe, data, tmp_path
):
    data_of_recipe = {"root": "nowhere", "folds": 5, "fold": 2, "classes": [*"9876543210"]}
    other = changed(recipe, tmp_path, data=data_of_recipe)
    args = ["--config", str(other), "--output", str(tmp_path / "a.lmdb")]
    assert main(["pack", *args, "--data.root", str(data), "--data.val", "train"]) == 0
    read = LMDBDataset(tmp_path / "a.lmdb", "train")
    assert len(read) == 8 and read.classes == [*"9876543210"]
    original = VOCDataset(data, "train", [*"9876543210"])
    for a, b in zip(read.annotations, original.annotations, strict=True):
        assert a["labels"].tolist() == b["labels"].tolist()


def test_digits_are_made_and_packed(tmp_path):
    args = ["--data.format", "digits", "--data.root", str(tmp_path / "made")]
    args += ["--data.digits.train", "2", "--data.digits.val", "1"]
    assert main(["pack", *args, "--output", str(tmp_path / "a.lmdb")]) == 0
    assert len(LMDBDataset(tmp_path / "a.lmdb", "train")) == 2


@pytest.mark.slow
def test_a_run_ends_as_from_the_folder(run, recipe, file, tmp_path):
    args = ["--data.format", "lmdb", "--data.root", str(file)]
    folder = tmp_path / "run"
    assert main(["train", "--config", str(recipe), "--output", str(folder), *args]) == 0
    assert (folder / "results.json").read_text() == (run / "results.json").read_text()
    with np.load(folder / "detections.npz") as a, np.load(run / "detections.npz") as b:
        assert a["names"].tolist() == b["names"].tolist()
        np.testing.assert_array_equal(a["found_boxes"], b["found_boxes"])
    assert (folder / "detections.png").read_bytes() == (run / "detections.png").read_bytes()


@pytest.mark.slow
def test_a_checkpoint_is_measured_on_it_in_workers(run, file, tmp_path):
    args = ["--checkpoint", str(run / "last.pth"), "--json", str(tmp_path / "numbers.json")]
    args += ["--data.format", "lmdb", "--data.root", str(file), "--data.workers", "2"]
    assert main(["evaluate", *args]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers == json.loads((run / "results.json").read_text())


def test_folds_are_those_of_the_folder(data, file):
    read = {"format": "lmdb", "root": str(file)}
    for fold in range(3):
        ours, theirs = (
            DataConfig(**place, folds=3, fold=fold) for place in (read, {"root": str(data)})
        )
        classes = training_set(theirs).classes
        for a, b in (
            (training_set(ours), training_set(theirs)),
            (validation_set(ours, classes), validation_set(theirs, classes)),
        ):
            assert [x["path"].name for x in a.annotations] == [
                x["path"].name for x in b.annotations
            ]
            assert [x["image_id"] for x in a.annotations] == [x["image_id"] for x in b.annotations]
            np.testing.assert_array_equal(a.image(1), b.image(1))


def test_images_in_both_parts_are_refused_for_folds(file, recipe, tmp_path, capsys):
    args = ["--data.format", "lmdb", "--data.root", file, "--data.val", "train"]
    line = fails(capsys, "train", "--config", recipe, *args, "--data.folds", 2)
    assert "train_00001.jpg is in data.train and in data.val" in line


def test_overwrite_replaces_the_file(file, data, tmp_path, capsys):
    output = tmp_path / "digits.lmdb"
    output.write_text("something")
    args = ("pack", "--data.root", data, "--output", output)
    assert f"--output {output} is there already" in fails(capsys, *args)
    assert output.read_text() == "something"
    assert main([str(arg) for arg in (*args, "--overwrite")]) == 0
    assert output.read_bytes() == file.read_bytes()


def test_wrong_use_is_one_line(data, file, recipe, tmp_path, capsys):
    (data / "ImageSets" / "Main" / "empty.txt").write_text("")
    pack = ("pack", "--data.root", data, "--output", tmp_path / "new.lmdb")
    packed = ("--data.format", "lmdb", "--data.root", file)
    train = ("train", "--config", recipe, "--output", tmp_path / "run", *packed)
    both = (
        "--data.format",
        "coco",
        "--data.train",
        "a",
        "--data.val",
        "a",
        "--data.val_images",
        "b",
    )
    for args, said in (
        (("pack", "--data.root", data), "output"),
        ((*pack[:3], "--output", tmp_path), "is a folder; name a file"),
        ((*pack, "--data.root", tmp_path / "nowhere"), "nowhere' is no folder"),
        ((*pack, "--data.train", "nothing"), "nothing"),
        ((*pack, "--data.val", "empty"), "is empty: it names no images"),
        ((*pack, "--data.folds", 5), "--data.folds"),
        ((*pack, "--config", tmp_path / "none.yaml"), "none.yaml: No such file"),
        ((*pack, *packed), "is packed already"),
        ((*pack, *both), "both"),
        ((*train, "--data.root", tmp_path / "none.lmdb"), "none.lmdb: no such file"),
        ((*train, "--data.root", data), "is a folder, not a file"),
        ((*train, "--data.root", recipe), "not readable as an LMDB file"),
        ((*train, "--data.train", "tset"), "no part 'tset'; it holds train, val"),
        ((*train, "--data.classes", "[a]"), "data.classes: a packed data set has"),
    ):
        assert said in fails(capsys, *args)
    assert not (tmp_path / "new.lmdb").exists() and not (tmp_path / "run").exists()


def test_without_lmdb_it_says_what_to_install(file, data, recipe, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("detcenter.recipe.extras.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    for args in (
        ("pack", "--data.root", data, "--output", tmp_path / "a.lmdb"),
        ("train", "--config", recipe, "--data.format", "lmdb", "--data.root", file),
    ):
        assert "detcenter[lmdb]" in fails(capsys, *args)
