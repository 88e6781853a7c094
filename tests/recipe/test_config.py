import dataclasses
from pathlib import Path

import pytest
import yaml

from detcenter.errors import ConfigError
from detcenter.recipe.config import CenterConfig, Config, LossConfig, config_from_dict, differences
from detcenter.recipe.parsing import parse_recipe, recipe_parser

RECIPES = sorted(Path(__file__).parents[2].glob("configs/*.yaml"))


def parse(*args):
    return parse_recipe(recipe_parser("train", ""), list(args))[0]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("center: {weight: 0.5, features: embedding}\ntrain: {epochs: 7}\n")
    return path


def test_a_recipe_keeps_the_defaults_of_what_it_does_not_name(recipe):
    config = parse("--config", str(recipe))
    assert config.center == CenterConfig(weight=0.5, features="embedding")
    assert config.train.epochs == 7 and config.train.lr == Config().train.lr


def test_the_command_line_overrides_any_key(recipe):
    config = parse(
        "--config", str(recipe), "--train.epochs", "3", "--model.strides=[4,8]", "--center.alpha=0"
    )
    assert config.train.epochs == 3 and config.model.strides == [4, 8]
    assert config.center == CenterConfig(weight=0.5, features="embedding", alpha=0)


def test_it_overrides_the_recipe_in_any_order(recipe):
    config = parse("--train.epochs", "3", "--center", "null", "--config", str(recipe))
    assert config.train.epochs == 3 and config.center is None
    config = parse("--train.epochs=3", f"--config={recipe}", "--train.lr=1")
    assert config.train.epochs == 3 and config.train.lr == 1 and config.center.weight == 0.5


def test_one_word_switches_the_term_off_and_a_key_switches_it_on(recipe):
    assert parse("--config", str(recipe), "--center", "null").center is None
    recipe.write_text("center: null\n")
    assert parse("--config", str(recipe)).center is None
    assert parse("--config", str(recipe), "--center.weight=2").center == CenterConfig(weight=2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--train.epoch", "3"], r"--train.epoch; the nearest known is 'train.epochs'"),
        (["--center.wieght=3"], r"'center.weight'"),
        (["--train.epochs", "many"], r"train.epochs takes a whole number, not many"),
        (["--model.image_size", "big"], r"model.image_size takes a whole number or null, not big"),
        (
            ["--data.format", "vco"],
            r"data.format takes auto or voc or",
        ),
        (["--center", "nul"], r"center is a section of keys, see --center.help, or null"),
        (
            ["--center.features", "foo"],
            "center.features takes cell or box or embedding or null, not foo",
        ),
        (["--config", "a.yaml", "--config=b.yaml"], "given more than once"),
        (["--config", "missing.yaml"], r"missing.yaml: No such file"),
        (["--train.epochs", "0"], "train.epochs is 0, the least is 1"),
        (["--train.epochs", "null"], "train.epochs takes a whole number"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_names_the_key(args, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse(*args)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: {epochs: 3}", r"recipe.yaml: unknown key 'trian'.*'train'"),
        ("train: {epochs: 3, warmup: 2}", r"'train.warmup'.*'train.warmup_steps'"),
        ("train: {epochs: x}", r"train.epochs"),
        ("train: {lr: null}", r"train.lr is null"),
        ("train: null", r"train is a section of keys, not None"),
        ("data: [1]", r"data is a section of keys"),
        ("data: {augment: 3}", r"data.augment is a section of keys"),
        ("1: 2", r"unknown key '1'"),
        ("train: [", "is not YAML"),
        ("just words", "holds no recipe"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_file_or_key(recipe, text, message):
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        parse("--config", str(recipe))
    assert "\n" not in str(caught.value)


def test_a_config_survives_a_checkpoint_and_a_yaml_file(recipe):
    for config in (parse("--config", str(recipe)), parse("--center", "null")):
        values = dataclasses.asdict(config)
        assert config_from_dict(values) == config
        assert config_from_dict(yaml.safe_load(yaml.safe_dump(values))) == config


def test_a_recipe_of_before_there_was_a_choice_of_backends_and_trackers():
    values = dataclasses.asdict(Config())
    del values["evaluation"], values["train"]["trackers"]
    assert config_from_dict(values) == Config()


def test_differences_are_named_by_their_dotted_keys(recipe):
    one, other = parse("--config", str(recipe)), parse("--config", str(recipe), "--train.lr=9")
    assert list(differences(one, one)) == []
    assert list(differences(one, other)) == [("train.lr", one.train.lr, 9.0)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_opens_with_its_command(path):
    tool = "sweep" if path.stem == "digits_2d" else "train"
    assert path.read_text().startswith(f"# python tools/{tool}.py --config configs/{path.name}\n")
    parse("--config", str(path))


def test_terms_have_names_of_ones_own(recipe):
    recipe.write_text("terms: {rank: {loss: RankHardLoss, weight: 0.2, args: {margin: 1}}}\n")
    config = parse("--config", str(recipe), "--terms.rank.warmup_steps", "9")
    expected = LossConfig(loss="RankHardLoss", weight=0.2, args={"margin": 1}, warmup_steps=9)
    assert config.terms == {"rank": expected}
    config = parse("--config", str(recipe), "--terms.other.loss", "SupConLoss")
    assert list(config.terms) == ["rank", "other"]
    assert config_from_dict(dataclasses.asdict(config)) == config
    assert parse("--model.options.min_size", "300").model.options == {"min_size": 300}


@pytest.mark.parametrize(
    ("text", "old"),
    [
        ("center: {warmup: 3}", "'center.warmup' has another name now: center.warmup_steps"),
        ("terms: {a: {warmup: 3}}", "'terms.a.warmup' has another name now: terms.a.warmup_steps"),
        ("train: {warmup: 3}", "the nearest known is 'train.warmup_steps'"),
    ],
)
def test_a_key_of_an_earlier_version_names_the_new_one(recipe, text, old):
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=old):
        parse("--config", str(recipe))
    with pytest.raises(ConfigError, match="center.warmup.*now: center.warmup_steps"):
        parse("--center.warmup", "3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("terms: {a: {los: 3}}", "'terms.a.los'; the nearest known is 'terms.NAME.loss'"),
        ("terms: {a: null}", "terms.a is a section of keys, not None"),
        ("terms: [1]", "terms is a section of keys, not"),
        ("terms: {a: {args: 3}}", "args of a term in terms takes a section of keys, not 3"),
        ("terms: {a: {weight: b}}", "weight of a term in terms takes a number or null, not b"),
        ("terms: {a: {loss: null}}", "terms.a.loss is null, but needs a value"),
    ],
)
def test_wrong_terms_name_the_key(recipe, text, message):
    recipe.write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse("--config", str(recipe))
