"""Recipes that come with the package, by name."""

from pathlib import Path

import pytest

from detcenter.errors import ConfigError
from detcenter.recipe.parsing import data_of_recipe, parse_recipe, recipe_parser
from detcenter.recipe.shipped import recipe_file, shipped

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("given", [["--config", "digits"], ["--config=digits"]])
def test_a_recipe_has_a_name_wherever_one_is(given, elsewhere):
    named, arguments = parse_recipe(recipe_parser("train", ""), [*given, "--train.epochs", "3"])
    path = ["--config", str(CONFIGS / "digits.yaml")]
    assert named == parse_recipe(recipe_parser("train", ""), [*path, "--train.epochs=3"])[0]
    assert Path(str(arguments.config[-1])).stem == "digits"
    assert data_of_recipe("pack", given).format == "digits"


def test_a_file_of_that_name_wins_and_a_folder_does_not(elsewhere):
    (elsewhere / "digits").mkdir()
    assert Path(recipe_file("digits")) == CONFIGS / "digits.yaml"
    (elsewhere / "digits").rmdir()
    (elsewhere / "digits").write_text("train: {epochs: 77}")
    assert recipe_file("digits") == "digits"
    config, _ = parse_recipe(recipe_parser("train", ""), ["--config", "digits"])
    assert config.train.epochs == 77


def test_what_is_neither_is_one_line_with_the_names(elsewhere):
    with pytest.raises(ConfigError) as caught:
        parse_recipe(recipe_parser("train", ""), ["--config", "xyz"])
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    assert str(caught.value) == (
        "--config xyz: No such file, and no recipe of that name comes with detcenter; "
        f"known: {names}"
    )
    for typo in ("digits_rcn", "digits-rcnn.yaml"):
        with pytest.raises(ConfigError, match="detcenter; did you mean 'digits_rcnn'"):
            parse_recipe(recipe_parser("train", ""), ["--config", typo])
    with pytest.raises(ConfigError, match="no/digits: No such file or directory"):
        parse_recipe(recipe_parser("train", ""), ["--config", "no/digits"])


def test_they_lie_inside_the_package_where_it_was_installed(tmp_path):
    package = tmp_path / "detcenter"
    for folder, name in ((tmp_path, "of_another"), (package, "ours")):
        (folder / "configs").mkdir(parents=True)
        (folder / "configs" / f"{name}.yaml").touch()
    assert shipped(package) == {"ours": package / "configs/ours.yaml"}
