"""What README and pages say is there, is there, and their Python runs."""

import dataclasses
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

import detcenter
from detcenter.cli import _COMMANDS, main
from detcenter.data import video_writer
from detcenter.recipe.config import CenterConfig, Config, LossConfig, flat
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.training import load_checkpoint, save_checkpoint
from detcenter.unknown import UnknownScorer
from tests.readme_code import blocks, left_out, run_blocks
from tests.tiny_detectors import BOXES, SIZE, ssd

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
TEXTS = {"README.md": README, **{f"docs/{name}": text for name, text in PAGES.items()}}


def small(text):
    """With smaller images and fewer proposals; tests/wheel.sh runs the README as it is."""
    text = text.replace("_fpn(weights", "_fpn(min_size=64, max_size=96, weights")
    few = "rpn_post_nms_top_n_train=50, rpn_post_nms_top_n_test=20"
    return text.replace("_320_fpn(", f"_320_fpn({few}, ")


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_blocks(small(README))
    promised = re.search(r"losses = .*# (.*)", README)[1]
    assert promised == "torchvision's four losses, and loss_center"
    assert len(names["losses"]) == 4 + 1
    assert names["losses"]["loss_center"].item() == pytest.approx(1.5)  # 3 / 2: centers are zero
    saved = torch.load("detector.pth")
    assert saved.keys() == names["model"].state_dict().keys()
    assert not any("box_terms" in key for key in saved)


@pytest.fixture
def at_hand(run, data, tmp_path, monkeypatch):
    """What the pages' code finds: files that commands have written, and names of one's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/digits/best.pth", "runs/digits_rcnn/best.pth", "runs/cars/best.pth"):
        Path(name).parent.mkdir(parents=True)
        shutil.copy(run / "best.pth", name)
    images = sorted((data / "JPEGImages").iterdir())
    shutil.copy(images[0], "photo.jpg")
    for folder in ("data/digits_200/JPEGImages", "folder"):
        Path(folder).mkdir(parents=True)
        shutil.copy(images[0], folder)
    with video_writer(Path("clip.mp4"), 10.0) as write:
        write(torch.zeros(48, 64, 3, dtype=torch.uint8).numpy())
    boxes, labels = BOXES, torch.tensor([1, 2, 3])
    return {
        "images": [torch.rand(3, SIZE, SIZE)],
        "targets": [{"boxes": boxes, "labels": labels}],
        "boxes": [boxes],
        "labels": [labels],
        "model": ssd(),
    }


def with_unknown_scorer(checkpoint):
    """As `openset --save` leaves it; what the scores are worth does not matter here."""
    features, labels = torch.rand(60, 64), torch.arange(60) % 3 + 1
    scorer = UnknownScorer.fit(features, torch.rand(60, 4), labels)
    Path("runs/known").mkdir()
    save_checkpoint(
        Path("runs/known/open.pth"), **load_checkpoint(checkpoint) | {"unknown": scorer.state()}
    )


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if blocks(text)])
def test_the_code_of_a_page_runs(page, at_hand):
    names = at_hand
    if page == "unknown.md":
        with_unknown_scorer(Path("runs/digits/best.pth"))
        names |= {"other_images": names["images"], "scores_of_right_ones": torch.rand(20)}
    if page == "enroll.md":
        names |= {"new_images": names["images"], "new_boxes": [BOXES[:1]]}
    if page == "similar.md":
        pytest.importorskip("pyarrow")
        args = ["--checkpoint", "runs/digits/best.pth", "--output", "features"]
        assert main(["features", *args, "--format", "parquet"]) == 0
    if page == "predict.md":
        pytest.importorskip("supervision")
    names = run_blocks(small(PAGES[page]), names)
    for check in AFTERWARDS.get(page, []):
        assert eval(check, names), check


AFTERWARDS = {
    "index.md": ["losses.keys() >= {'loss_center', 'loss_classifier'} and len(losses) == 5"],
    "your_loop.md": [
        "losses.keys() >= {'loss_center', 'loss_rank', 'loss_embedding'} and len(losses) == 5",
        "'loss_center' in validation_losses and not validation_losses['loss_center'].requires_grad",
        "features[0].shape == (1, 1024) and logits[0].shape == (1, 7)",
        "len(found[0]['features']) == len(found[0]['boxes'])",
        "not any('box_terms' in key for key in torch.load('plain.pth'))",
        "any('box_terms' in key for key in torch.load('attached.pth'))",
    ],
    "first_steps.md": ["model.classes and not model.training"],
    "predict.md": ["len(picture) and detection['labels'].min() >= 1 if len(detections) else True"],
    "similar.md": ["features.ndim == 2 and len(features) == len(table)"],
    "enroll.md": ["classes.names == ['van']"],
    "unknown.md": ["'unknown_scores' in found[0]"],
    "speed.md": ["waits.total > 0"],
}


def test_code_that_does_not_run_says_why():
    assert all(len(reason) > 10 for text in TEXTS.values() for reason in left_out(text))


def test_every_file_that_is_named_exists():
    places = r"(?:configs|tools|benchmarks|docs)/\w+\.\w+"
    named = {name for text in TEXTS.values() for name in re.findall(places, text)}
    assert len(named) >= 30
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere_in_the_repository_too(page):
    """On the site `make docs` checks them."""
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", TEXTS[page]):
        file, _, heading = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), link
        assert not heading or heading in anchors(target.read_text()), link


def anchors(text):
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_option_that_a_page_gives_a_command_is_its_own(command, capsys):
    """In blocks and in line, after `detcenter COMMAND` or `tools/COMMAND.py`."""
    given = {option for text in TEXTS.values() for option in options(text, command)}
    if not given:
        return
    said = help_of(command, capsys)
    keys = {f"--{key}" for key in flat(Config(terms={"NAME": LossConfig()}))} | {"--center"}
    own = {option for option in given if re.search(rf"{re.escape(option)}\b", said)}
    assert given - own <= (keys if "--config" in said or "--checkpoint" in said else set()), given


def options(text, command):
    text = text.replace("\\\n", " ")
    for line in re.findall(rf"(?:detcenter |tools/){command}(?:\.py)?\b([^\n`|]*)", text):
        yield from re.findall(r"(?<=\s)--[a-z_.0-9-]*[a-z0-9]", re.sub(r'"[^"]*"|#.*', " ", line))


def help_of(command, capsys):
    said = ""
    for asked in ("--help", "--help-all"):
        with suppress(SystemExit):
            main([command, asked])
        said += capsys.readouterr().out
    return said


def test_every_command_and_every_name_of_the_package_is_on_its_page():
    assert [name for name in _COMMANDS if f"`detcenter {name}`" not in PAGES["commands.md"]] == []
    listed = re.findall(r"^\.\. auto\w+:: (\w+)$", PAGES["api.md"], re.M)
    assert sorted(listed) == sorted(detcenter.__all__)


def test_the_recipes_that_are_shown_are_valid(tmp_path):
    recipes = [
        recipe for text in TEXTS.values() for recipe in re.findall(r"```yaml\n(.*?)```", text, re.S)
    ]
    assert len(recipes) >= 2
    for recipe in recipes:
        (tmp_path / "recipe.yaml").write_text(recipe)
        config, _ = parse_recipe(
            recipe_parser("train", ""), ["--config", str(tmp_path / "recipe.yaml")]
        )
        shown = yaml.safe_load(recipe)
        assert config.center.weight == shown["center"]["weight"] > 0
        assert config.terms.keys() == shown.get("terms", {}).keys()


def test_the_reference_has_every_key_of_a_recipe(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import keys

    entries = re.findall(r"^`([\w.]+)`\n: (.+)\\\n  (.+); default `(.+)`$", keys.page(), re.M)
    found = {key: (kind, default, meaning) for key, meaning, kind, default in entries}
    config = Config(center=CenterConfig(), terms={"NAME": LossConfig()})
    assert found.keys() == {key for key in leaves(config) if key != "terms"}
    assert len(found) == len(entries) > 100
    assert all(len(meaning) > 5 for _, _, meaning in found.values())
    assert found["data.digits.val"][:2] == ("whole number", "200")
    assert "validation images" in found["data.digits.val"][2]
    assert found["train.optimizer"][:2] == ("sgd or adamw", "sgd")
    assert found["center.vote"][0] == "number or null"
    assert found["terms.NAME.per_object"][:2] == ("true or false", "false")
    assert found["model.anchor_scales"][:2] == ("list of lists of numbers or null", "null")
    sys.modules.pop("keys")


def leaves(section, prefix=""):
    """The dotted keys of a recipe, by walking through one that has every section."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if field.name == "terms":
            yield from leaves(value["NAME"], "terms.NAME.")
        elif dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name
