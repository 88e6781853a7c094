"""Recipes of public data, and where data are looked for."""

import os
import re
from pathlib import Path

import pytest

from detcenter.options import check, evaluate, train
from detcenter.recipe.layouts import read_labelled, resolved
from detcenter.recipe.parsing import parse, parse_recipe

ROOT = Path(__file__).parents[2]
SETS = Path(os.environ.get("DETCENTER_DATA") or ROOT.parent / "shared")


def data_of(parser, *args):
    return parse_recipe(parser, args)[0].data


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "here/data/dice").mkdir(parents=True)
    (tmp_path / "there/data/dice").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("DETCENTER_DATA", raising=False)
    return tmp_path


def test_a_root_is_looked_for_there_first(here, monkeypatch):
    args = "--config", "dice"
    assert data_of(train.parser(), *args).root == "data/dice"
    monkeypatch.setenv("DETCENTER_DATA", str(here / "there"))
    assert data_of(check.parser(), *args).root == str(here / "there/data/dice")
    # What is not there is as it was, and so is what is absolute.
    assert data_of(check.parser(), *args, "--root", "data/none").root == "data/none"
    whole = str(here / "here/data/dice")
    assert data_of(check.parser(), *args, "--root", whole).root == whole
    # That of a checkpoint too.
    recipe = parse_recipe(train.parser(), ["--config", "bccd"])[0]
    recipe.data.root = "data/dice"
    root = parse(evaluate.parser((), recipe), []).data.root
    assert root == str(here / "there/data/dice")


@pytest.mark.parametrize(
    ("name", "train_counts", "val_counts"),
    [
        ("bccd", (292, 3943), (72, 945)),
        ("chess", (206, 3089), (46, 714)),
        ("dice", (200, 1487), (50, 308)),
        ("fasterrcnn_mobilenetv2_dice", (200, 1487), (50, 308)),
    ],
)
def test_recipes_find_the_public_data(name, train_counts, val_counts, monkeypatch):
    monkeypatch.setenv("DETCENTER_DATA", str(SETS))
    data = data_of(train.parser(), "--config", name)
    if not Path(data.root).is_absolute() or not Path(data.root).is_dir():
        pytest.skip("the data are not there")
    data = resolved(data)
    for part, counts in (("train", train_counts), ("val", val_counts)):
        read = read_labelled(data, part, None, [])
        boxes = sum(len(annotation["labels"]) for annotation in read.annotations)
        assert (len(read.annotations), boxes) == counts, part


def test_no_recipe_points_outside():
    for path in (ROOT / "configs").glob("*.yaml"):
        text = path.read_text()
        assert "../" not in text
        assert re.search(r"^ +root: data/|root: data/", text, re.MULTILINE), path
