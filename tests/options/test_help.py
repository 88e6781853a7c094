"""Help and wrong arguments: on a page, in words, and before torch is loaded."""

import re
import subprocess
import sys

import pytest

from detcenter.cli import _COMMANDS, main
from detcenter.commands import convert, export
from detcenter.evaluation import FORMATS
from detcenter.options import convert as convert_options
from detcenter.options import export as export_options
from detcenter.options import openset as openset_options
from detcenter.options import predict as predict_options
from detcenter.options.help import help_page
from detcenter.recipe.config import Config, flat
from detcenter.recipe.keys import all_keys, in_words
from detcenter.unknown import WAYS
from tests.command_line import fails

COMMANDS = [command for command in _COMMANDS if command != "env"]


def said(capsys, *args):
    assert main([*args]) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_a_page(command, capsys):
    page = said(capsys, command, "--help")
    lines = page.splitlines()
    assert lines[0].startswith(f"usage: detcenter {command} ")
    assert len(lines) <= 60 and max(map(len, lines)) <= 100
    assert not re.search(r"Optional|Literal|Union|type:|\bNone\b", page)
    options = re.findall(r"^  (\S+)", page, re.MULTILINE)
    assert len(options) == len({*options}) > 2


def test_all_keys_of_a_recipe_are_behind_help_all(capsys):
    page = said(capsys, "train", "--help-all")
    text = " ".join(page.split())
    for name in flat(Config()):
        last = name.rpartition(".")[2].replace("_", "-")
        assert re.search(rf"^  --({re.escape(name)}|{last})( |$)", page, re.MULTILINE), name
    for what in (
        "[train.milestones; list of whole numbers; [80, 110]]",
        "list of lists of numbers",
    ):
        assert what in text
    assert "--terms.NAME.miner_args" in page and "--gamma" not in said(capsys, "train", "--help")


def test_a_section_has_a_page_of_its_own(capsys):
    page = said(capsys, "train", "--center.help")
    assert "--alpha" in page and "center.vote" in page and "train.lr" not in page


def test_what_a_checkpoint_replaces_has_no_default(capsys):
    page = said(capsys, "evaluate", "--help")
    assert "[evaluation.max_detections]" in page and "[data.root]" in page
    assert "train.lr" not in said(capsys, "evaluate", "--help-all")


def test_every_key_has_a_meaning_and_a_type_in_words():
    keys = list(all_keys())
    assert {key.name for key in keys if "NAME" not in key.name} >= flat(Config()).keys()
    for key in keys:
        assert len(key.meaning) > 10, key.name
        # What is readable only behind its key begins so.
        assert not re.match(r"(of|likewise|the same)\b", key.meaning), key.name
        assert in_words(key.kind)


@pytest.mark.slow
def test_help_and_wrong_arguments_wait_for_no_torch():
    code = f"""
import sys
from detcenter.cli import main
for command in {COMMANDS}:
    assert main([command, "--help"]) == main([command, "--help-all"]) == 0, command
    assert main([command, "--no-such-option"]) == 2, command
for args in (["train"], ["compare"], ["sweep"], ["audit"], ["openset"], ["evaluate"], ["features"],
             ["train", "--config", "digits", "--epochs", "x"], ["export"], ["predict", "a.jpg"]):
    assert main(args) == 2, args
assert not {{"torch", "cv2", "sklearn", "albumentations"}} & {{*sys.modules}}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(COMMANDS) + 10
    assert all(re.match(r"detcenter \w+: .", line) for line in lines)
    assert sum("--config FILE is missing" in line for line in lines) == 4
    assert "detcenter compare: --config FILE or --runs FOLDER ... is missing" in done.stderr


def test_what_options_name_is_what_there_is():
    assert (*FORMATS,) == predict_options.FORMATS and openset_options.WAYS == WAYS
    assert {*convert._WRITERS} == {*convert_options.LAYOUTS}
    assert {*export._WRITERS} | {"safetensors"} == {*export_options.ENDINGS}


def test_without_a_wish_there_is_no_help():
    assert help_page(predict_options.parser(), (), ["a.jpg"]) is None


def test_corrections_have_help_of_their_own(capsys):
    page = said(capsys, "audit", "apply", "--help")
    assert page.startswith("usage: detcenter audit apply") and "decisions" in page


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--epoch", 3), "unknown --epoch; the nearest known is 'train.epochs'"),
        (("--imgsz", 640), "unknown --imgsz; it is 'model.image_size' here"),
        (("--zzz", 3), "unknown --zzz; none is like it; --help-all tells all"),
        (
            ("--warmup-steps", 3),
            "--warmup-steps is center.warmup_steps or train.warmup_steps; give",
        ),
        (("--train.backbone_lr", 0.1), "has another name now: train.backbone_lr_factor"),
        (("--backbone-lr", 0.1), "has another name now: train.backbone_lr_factor"),
        (("--lr", "much"), "train.lr takes a number, not much"),
    ],
)
def test_wrong_names_are_one_line(args, message, capsys):
    assert message in fails(capsys, "train", "--config", "digits", *args)


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        (
            "train --config digits",
            ("--set", "a: center=null"),
            "unknown --set; --set is of detcenter compare",
        ),
        (
            "sweep --config digits",
            ("--seeds", 3),
            "unknown --seeds; the nearest known is 'train.seed'; --seeds is of detcenter compare",
        ),
        ("train --config digits", ("--no-pictures",), "--no-pictures is of detcenter predict"),
        ("report a", ("--fix", "b"), "unknown --fix; --fix is of detcenter check"),
        ("report a", ("--jobs", 2), "--jobs is of detcenter audit, sweep or compare"),
        (
            "evaluate",
            ("--checkpoint", "a.pth", "--epochs", 3),
            "--train.epochs is of detcenter init, ",
        ),
    ],
)
def test_options_of_other_commands(command, args, message, capsys):
    assert message in fails(capsys, *command.split(), *args)


def test_an_option_in_a_recipe(tmp_path, capsys):
    recipe = tmp_path / "a.yaml"
    recipe.write_text("resume: true")
    said = fails(capsys, "train", "--config", recipe)
    assert said.endswith("a.yaml: unknown key 'resume'; --resume is of detcenter train")


def test_options_of_other_programs(capsys):
    said = fails(capsys, "predict", "a.jpg", "--checkpoint", "a.pth", "--conf", "0.3")
    assert "unknown --conf; it is 'threshold' here" in said
