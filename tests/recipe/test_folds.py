"""data.folds: cross-validation over the images of train and val together."""

import json

import pytest

from detcenter.cli import main
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import training_set, validation_set
from tests.command_line import fails


def parts(root, folds):
    for fold in range(folds):
        data = DataConfig(root=str(root), folds=folds, fold=fold)
        train = training_set(data)
        val = validation_set(data, train.classes)
        yield [[(a["image_id"], a["path"].name) for a in part.annotations] for part in (train, val)]


@pytest.mark.parametrize("folds", [2, 5])
def test_every_image_is_held_out_once(data, folds):
    held_out = []
    for train, val in parts(data, folds):
        assert not set(train) & set(val)
        assert len(train) + len(val) == 12  # eight of train, four of val
        assert abs(len(val) - 12 / folds) < 1
        held_out += val
    assert sorted(number for number, _ in held_out) == list(range(1, 13))
    assert len({name for _, name in held_out}) == 12


def test_parts_are_always_the_same(data):
    assert list(parts(data, 3)) == list(parts(data, 3))


def test_images_in_both_lists(data):
    with pytest.raises(ConfigError, match="is in data.train and in data.val"):
        training_set(DataConfig(root=str(data), val="train", folds=2))


def test_a_fold_is_trained_and_evaluated(recipe, tmp_path, capsys):
    folder = tmp_path / "run"
    args = ["--data.folds", "3", "--data.fold", "1", "--train.epochs", "1"]
    assert main(["train", "--config", str(recipe), "--output", str(folder), *args]) == 0
    results = json.loads((folder / "results.json").read_text())
    numbers = tmp_path / "again.json"
    checkpoint = str(folder / "last.pth")
    assert main(["evaluate", "--checkpoint", checkpoint, "--json", str(numbers)]) == 0
    assert json.loads(numbers.read_text())["AP"] == pytest.approx(results["AP"])


@pytest.mark.parametrize(
    "args, said",
    [
        (("--data.folds", "1"), "data.folds is 1, the least is 2"),
        (("--data.folds", "13"), "there are 12 images"),
        (("--data.folds", "3", "--data.fold", "3"), "data.fold is 3"),
    ],
)
def test_one_line_for_bad_folds(args, said, recipe, tmp_path, capsys):
    line = fails(capsys, "train", "--config", recipe, "--output", tmp_path / "run", *args)
    assert said in line
