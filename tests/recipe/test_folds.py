"""data.folds: cross-validation over the images of train and val together."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from detcenter.cli import main
from detcenter.data.splitting import folds_of
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import training_set, validation_set
from detcenter.recipe.folds import copies
from tests.command_line import fails

CLASSES = [*map(str, range(10))]


def rename(root, old, new):
    """An image of a VOC data set, in its lists too."""
    for folder in ("JPEGImages", "Annotations"):
        (file,) = (root / folder).glob(f"{old}.*")
        file.rename(file.with_name(f"{new}{file.suffix}"))
    for file in (root / "ImageSets/Main").iterdir():
        entries = file.read_text().split()
        file.write_text("\n".join(new if entry == old else entry for entry in entries))


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


@pytest.fixture
def own_data(data, tmp_path):
    return Path(shutil.copytree(data, tmp_path / "own"))


def test_copies_of_an_image_are_in_one_fold(own_data):
    """Byte by byte, by the names that Roboflow gives, and by one through the other."""
    first, second, third = sorted((own_data / "JPEGImages").iterdir())[:3]
    second.write_bytes(first.read_bytes())
    rename(own_data, first.stem, "scene.rf.1a")
    rename(own_data, third.stem, "scene.rf.2b")
    copies = {f"scene.rf.1a{first.suffix}", second.name, f"scene.rf.2b{third.suffix}"}
    held_out = [{name for _, name in val} for _, val in parts(own_data, 4)]
    assert sum(copies <= of_fold for of_fold in held_out) == 1
    assert sum(map(len, held_out)) == 12


def grouped(root, file, *groups):
    file.write_text(json.dumps(groups))
    return DataConfig(root=str(root), groups=str(file))


def test_images_of_a_group_are_in_one_fold(data, tmp_path):
    """Also by one that is in two groups; names that no image has say nothing."""
    names = [f"JPEGImages/{file.name}" for file in sorted((data / "JPEGImages").iterdir())]
    together = [names[0], names[4], names[8], names[11]]
    config = grouped(data, tmp_path / "g.json", [*together[:2], "other.jpg"], together[1:])
    held_out = []
    for fold in range(3):
        val = validation_set(dataclasses.replace(config, folds=3, fold=fold), CLASSES)
        held_out.append({a["path"].relative_to(data).as_posix() for a in val.annotations})
    assert sum(set(together) <= of_fold for of_fold in held_out) == 1
    assert set().union(*held_out) == set(names) and sum(map(len, held_out)) == 12
    val = validation_set(dataclasses.replace(config, folds=3), CLASSES)
    numbers = dict(zip((a["path"].name for a in val.annotations), copies(val, config), strict=True))
    there = {Path(name).name for name in together} & numbers.keys()
    assert len({numbers[name] for name in there}) == min(1, len(there))
    assert len(set(numbers.values())) == len(numbers) - max(0, len(there) - 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_group_is_held_out_as_a_whole(data, tmp_path, seed):
    names = [f"JPEGImages/{file.name}" for file in sorted((data / "JPEGImages").iterdir())]
    config = grouped(data, tmp_path / "g.json", names[:6], names[6:])
    config = dataclasses.replace(config, train="all", val=0.4, val_seed=seed)
    root = Path(shutil.copytree(data, tmp_path / "own"))
    lists = root / "ImageSets/Main"
    (lists / "all.txt").write_text("".join(f"{Path(name).stem}\n" for name in names))
    val = validation_set(dataclasses.replace(config, root=str(root)), CLASSES)
    chosen = {a["path"].relative_to(root).as_posix() for a in val.annotations}
    assert chosen in (set(names[:6]), set(names[6:]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("[", "is no JSON"),
        ('{"a": 1}', "is no list of lists of image names"),
        ('["a.jpg"]', "is no list of lists of image names"),
        ("[[]]", "is no list of lists of image names"),
        ('[["a.jpg", "b.jpg"]]', "names are those below data.root"),
    ],
)
def test_a_file_that_is_not_of_groups(data, recipe, tmp_path, capsys, text, said):
    file = tmp_path / "g.json"
    if text is not None:
        file.write_text(text)
    args = ("--data.folds", "3", "--data.groups", file, "--output", tmp_path / "run")
    line = fails(capsys, "train", "--config", recipe, "--data.root", data, *args)
    assert said in line and "g.json" in line


def test_without_copies_folds_are_equal_parts_of_one_order():
    names = [f"{n}.jpg" for n in range(10)]
    order = np.random.default_rng(0).permutation(10)
    for number, part in enumerate(np.array_split(order, 3)):
        assert np.flatnonzero(folds_of(names, names, 3) == number).tolist() == sorted(part)


def test_more_folds_than_images_that_are_no_copies(own_data, recipe, tmp_path, capsys):
    images = sorted((own_data / "JPEGImages").iterdir())
    for image in images:
        image.write_bytes(images[0].read_bytes())
    args = ("--data.root", own_data, "--data.folds", "3", "--output", tmp_path / "run")
    assert "of 12 images only 1 are no" in fails(capsys, "train", "--config", recipe, *args)


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
