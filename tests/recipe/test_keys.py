"""Short names of keys, and old ones."""

import dataclasses
import re

import pytest

from detcenter.errors import ConfigError
from detcenter.options import compare, convert, evaluate, predict, train
from detcenter.recipe.config import Config, config_from_dict
from detcenter.recipe.keys import all_keys, short_names, whole_names
from detcenter.recipe.parsing import parse, parse_recipe, with_whole_names
from detcenter.recipe.variants import variants_of
from tests.command_line import fails

NAMES = [key.name for key in all_keys()]


def recipe(*args):
    return parse_recipe(train.parser(), ["--config", "digits", *args])[0]


def test_short_names_stand_for_their_keys():
    short = recipe("--epochs=3", "--batch-size", "4", "--lr", "0.5", "--weight", "2", "--seed=7")
    whole = recipe(
        *("--train.epochs=3", "--train.batch_size", "4", "--train.lr", "0.5"),
        *("--center.weight", "2", "--train.seed=7"),
    )
    assert short == whole != recipe()
    assert recipe("--init-from", "a.pth").init_from == "a.pth"
    assert recipe("--train.batch-size", "5").train.batch_size == 5
    assert recipe("--val", "0.3").data.val == 0.3


def test_a_short_name_is_of_one_key():
    found = short_names(NAMES)
    assert found["epochs"] == ["train.epochs"] and found["seed"] == ["train.seed"]
    assert found["warmup_steps"] == ["center.warmup_steps", "train.warmup_steps"]
    # Sections keep their names, and digits have theirs whole.
    assert not {"train", "center", "imbalance", "loss"} & found.keys()
    with pytest.raises(ValueError, match="center.warmup_steps or train.warmup_steps"):
        whole_names(["--warmup_steps=3"], NAMES, [])


def test_an_option_of_the_command_comes_first():
    parser = predict.parser()
    assert with_whole_names(parser, ["--workers=3", "a", "--no_pictures", "--vote", "0.5"]) == [
        *("--workers=3", "a", "--no-pictures", "--center.vote", "0.5")
    ]
    parser = compare.parser()
    assert with_whole_names(parser, ["--folds=3", "--fold=1"]) == ["--folds=3", "--data.fold=1"]
    arguments = parse(convert.parser(), ["--root", "a", "--to", "voc", "--train", "b", "out"])
    assert (arguments.data.root, arguments.data.train, arguments.out) == ("a", "b", "out")


def test_a_checkpoints_recipe_stands_unless_keys_are_given():
    of_checkpoint = recipe("--iou", "0.7", "--root", "there", "--score=0.3")
    arguments = parse(evaluate.parser((), of_checkpoint), ["--iou", "0.4", "--workers=0"])
    assert (arguments.evaluation.iou, arguments.evaluation.score) == (0.4, 0.3)
    assert (arguments.data.root, arguments.data.workers) == ("there", 0)


def test_variants_take_short_names():
    args = ["--config", "digits"]
    texts = ["plain: center=null", "weight=0.1 epochs=3"]
    found = variants_of(compare.parser(), args, texts, None)["weight=0.1 epochs=3"][0]
    assert (found.center.weight, found.train.epochs) == (0.1, 3)


def test_an_old_name_loads_from_a_checkpoint_and_is_told_in_a_recipe(tmp_path):
    values = dataclasses.asdict(recipe("--backbone-lr-factor", "0.2"))
    values["train"]["backbone_lr"] = values["train"].pop("backbone_lr_factor")
    assert config_from_dict(values) == recipe("--backbone-lr-factor", "0.2")
    assert values["train"]["backbone_lr"] == 0.2  # which is another's, and stays as it was
    (tmp_path / "old.yaml").write_text("train: {backbone_lr: 0.2}\n")
    message = "'train.backbone_lr' has another name now: train.backbone_lr_factor"
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_recipe(train.parser(), ["--config", str(tmp_path / "old.yaml")])
    assert Config().train.backbone_lr_factor == 1


def test_a_recipe_without_its_option_is_told_how(capsys):
    assert fails(capsys, "train", "mine.yaml").endswith(
        "mine.yaml: a recipe is given as --config mine.yaml"
    )
