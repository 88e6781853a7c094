"""`detcenter init`: a recipe that fits a folder, and that one command trains."""

import shlex

import pytest
import yaml
from PIL import Image

from detcenter.cli import main
from detcenter.recipe.config import flat
from detcenter.recipe.facts import Machine
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from tests.command_line import fails
from tests.data.layouts import OBJECT

# A backbone as small as possible, and no weights that would be downloaded.
TINY = ["--model.weights_backbone=null", "--model.backbone", "shufflenet_v2_x0_5"]
TINY += ["--model.top_stride", "16"]
VOC = ["--data.train", "list", "--data.val", "list"]


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch, tmp_path):
    """Whatever machine the tests run on."""
    monkeypatch.setattr("detcenter.commands.init.this_machine", lambda: Machine(2, None, False))
    monkeypatch.chdir(tmp_path)


def recipe_in(path):
    return flat(parse_recipe(recipe_parser("test", ""), ["--config", str(path)])[0])


@pytest.mark.slow
def test_one_command_trains_what_it_wrote(data, tmp_path, capsys):
    args = [*TINY, "--train.epochs", "1", "--data.workers", "0", "--train.seed", "5"]
    assert main(["init", str(data), *args]) == 0
    *_, command = capsys.readouterr().out.splitlines()
    assert command == "detcenter train --config digits.yaml"
    text = (tmp_path / "digits.yaml").read_text()
    assert text.splitlines()[0] == f"# {command}"
    assert "0 and 1 look like something that is read" in text
    values = recipe_in(tmp_path / "digits.yaml")
    assert values["data.augment.flip"] is False and values["data.augment.rotate90"] is False
    assert values["model.image_size"] == 160 and values["train.batch_size"] == 8
    assert values["train.seed"] == 5 and values["data.root"] == str(data)
    assert main(shlex.split(command)[1:]) == 0
    used = yaml.safe_load((tmp_path / "runs/digits/config.yaml").read_text())
    assert used["train"]["epochs"] == 1 and used["model"]["anchor_scales"]


def test_it_says_how_many_objects_the_anchors_reach(voc, tmp_path, capsys):
    """Objects of 10 x 20 pixels in images of 40 x 30, resized to 128 x 128: 32 x 85.3."""
    assert main(["init", str(voc.root), *VOC, *TINY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 training images, 3 validation images, 3 objects of 1 classes"
    assert lines[1] == (
        "100.0% of the objects are reached by an anchor at IoU 0.5, 0.0% by the builder's own "
        "anchors"
    )
    values = recipe_in(tmp_path / "voc.yaml")
    assert values["model.aspect_ratios"] == [0.38]  # 32 / 85.3
    assert values["model.anchor_scales"] == [[0.41]]  # the root of 32 x 85.3, of 128
    assert values["model.name"] == "ssd" and values["data.augment.flip"] is True


def test_layout_and_parts_are_found_out(coco, tmp_path, capsys):
    for name in "abc":  # copies of one image stay in one part
        Image.effect_noise((40, 30), 90).convert("RGB").save(coco.image(name))
    output = tmp_path / "below" / "my recipe.yaml"
    assert main(["init", str(coco.root), *TINY, "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 training images, 1 validation images")
    assert lines[-1].endswith(f"--config '{output}'")
    values = recipe_in(output)
    assert (values["data.format"], values["data.train"]) == ("coco", "boxes.json")
    assert values["data.val"] == 0.2 and "held out" in output.read_text()
    assert values["output"] is None


def test_a_model_that_is_asked_for(voc, tmp_path):
    args = ["--model.name", "fasterrcnn", "--model.image_size", "64", "--center", "null"]
    args += ["--model.strides", "null"]  # which decides nothing
    assert main(["init", str(voc.root), *VOC, *TINY, *args]) == 0
    values = recipe_in(tmp_path / "voc.yaml")
    assert values["model.name"] == "fasterrcnn" and values["model.image_size"] == 64
    assert values["center"] is None and values["train.lr"] == 0.0006


def test_an_fcos_has_points_in_place_of_anchors(voc, tmp_path, capsys):
    args = ["--model.name", "fcos", "--model.strides", "[16]"]
    assert main(["init", str(voc.root), *VOC, *TINY, *args]) == 0
    lines = capsys.readouterr().out.splitlines()
    # 32 x 85.3 pixels have points within, whatever their distance
    assert lines[1] == (
        "100.0% of the objects have a point that is responsible for them, 100.0% with the "
        "builder's own strides"
    )
    values = recipe_in(tmp_path / "voc.yaml")
    assert values["model.strides"] == [16] and values["model.anchor_scales"] is None


def test_overwrite_replaces_the_recipe(voc, tmp_path, capsys):
    path = tmp_path / "voc.yaml"
    path.write_text("mine")
    args = ("init", str(voc.root), *VOC, *TINY)
    assert "voc.yaml is there already" in fails(capsys, *args)
    assert path.read_text() == "mine"
    assert main([*args, "--overwrite"]) == 0
    assert "detcenter train" in path.read_text()


def test_wrong_use_is_one_line(voc, tmp_path, capsys):
    init = ("init", voc.root, *VOC, *TINY)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for args, said in (
        (("init",), "folder"),
        (("init", tmp_path / "nowhere"), "nowhere: no such folder"),
        (("init", tmp_path / "empty"), "no annotations of"),
        ((*init, "--data.val", "tset"), "tset.txt"),
        ((*init, "--data.root", "other"), "--data.root is what FOLDER says"),
        ((*init, "--output", tmp_path), "is a folder; name a file"),
        ((*init, "--output", tmp_path / "file" / "a.yaml"), "file"),
        ((*init, "--model.name", "fcos_resnet50_fpn"), "the models that are fitted are"),
        ((*init, "--model.strides", "[8]"), "belong together"),
        (
            (*init, "--model.name", "fcos", "--model.aspect_ratios", "[1.0]"),
            "model: aspect_ratios is not for fcos",
        ),
        ((*init, "--model.backbone", "resnet"), "'resnet' is no classification model"),
        ((*init, "--model.weights_backbone", "no/such.pth"), "no such weights file"),
        ((*init, "--model.image_sise", "64"), "nearest known is 'model.image_size'"),
        ((*init, "--model.image_size", "0"), "model.image_size is 0, the least is 32"),
        ((*init, "--train.epochs", "0"), "train.epochs is 0, the least is 1"),
    ):
        assert said in fails(capsys, *args)
    voc.page(
        "a", OBJECT.format("cat", 5, 5, 9, 9).replace("</name>", "</name><difficult>1</difficult>")
    )
    for name in "bc":
        voc.page(name)
    assert "no objects to learn from" in fails(capsys, *init)
    voc.image("b").write_bytes(b"no image")
    assert "b.png" in fails(capsys, *init)
    assert not list(tmp_path.glob("*.yaml"))
