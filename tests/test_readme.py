"""What the README says is there, is there."""

import re
from pathlib import Path

from detcenter.recipe.parsing import parse_recipe, recipe_parser
from tests.readme_code import blocks, first_names, run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = [path.read_text() for path in (ROOT / "docs").glob("*.md")]


def test_the_code_for_ones_own_loop_runs():
    first, second = blocks(README)
    names = first_names()
    run(first, names)
    assert set(promised(first)) < names["losses"].keys() and len(names["losses"]) == 4 + 1
    assert not any("box_terms" in key for key in names["model"].state_dict())
    run(second, names)
    assert set(promised(second)) < names["losses"].keys() and len(names["losses"]) == 2 + 3
    assert names["features"][0].shape == (1, 64)
    assert len(names["found"][0]["features"]) == len(names["found"][0]["boxes"])


def promised(code):
    return re.findall(r"loss_\w+", re.search(r"losses = .*# (.*)", code)[1])


def test_every_file_that_it_names_exists():
    places = r"(?:configs|tools|benchmarks|docs)/\w+\.\w+"
    named = {name for text in [README, *DOCS] for name in re.findall(places, text)}
    assert len(named) >= 30
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_option_that_it_names_is_known():
    from detcenter.recipe.config import Config, flat

    ours = (
        "config checkpoint json output overwrite resume detections score term raw "
        "predictions annotations help center.help terms model.options set seeds folds jobs runs "
        "fix root threshold every format no html to iou vary baseline equivalence pool "
        "index measure part class images"
    )
    benchmarks = {"repeats", "batch", "models"}
    known = flat(Config()).keys() | set(ours.split()) | {"center"} | benchmarks
    options = set(re.findall(r"--([a-z_.0-9]+)", README))
    assert len(options) > 10 and options <= known


def test_the_recipes_that_are_shown_are_valid(tmp_path):
    text = README + (ROOT / "docs/terms.md").read_text()
    recipes = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(recipes) == 2
    for recipe in recipes:
        (tmp_path / "recipe.yaml").write_text(recipe)
        config, _ = parse_recipe(
            recipe_parser("train", ""), ["--config", str(tmp_path / "recipe.yaml")]
        )
        assert config.center.weight == 0.3
