"""Folders of `detcenter export --to safetensors`."""

import json
import math

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import detcenter
from detcenter import EnrolledClasses
from detcenter.cli import main
from detcenter.recipe.config import config_from_dict
from detcenter.runs.published import model_card, publish
from detcenter.training import load_checkpoint, save_checkpoint
from detcenter.unknown import WAYS, UnknownScorer
from tests.command_line import fails

pytestmark = pytest.mark.slow


@pytest.fixture
def published(run, tmp_path):
    folder = tmp_path / "model"
    args = ["export", "--to", "safetensors", "--output", folder, "--center.vote", "0.25"]
    assert main([str(x) for x in [*args, "--checkpoint", run / "best.pth"]]) == 0
    return folder


def assert_same_model(model, expected):
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    with torch.no_grad():
        for a, b in zip(model(images), expected(images), strict=True):
            assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert model.classes == expected.classes and not model.training


def test_it_loads_in_one_line_and_is_the_same_model(run, published):
    expected = detcenter.vote(detcenter.load(run / "best.pth", "cpu"), 0.25)
    for path in (published, str(published / "model.safetensors")):
        model = detcenter.load(path, "cpu")
        assert model.box_vote == expected.box_vote
        assert_same_model(model, expected)
    assert_same_model(detcenter.load(run, "cpu"), detcenter.load(run / "best.pth", "cpu"))


def test_nothing_of_the_checkpoint_changes(run, published):
    before, after = load_checkpoint(run / "best.pth"), load_checkpoint(published)
    for key in ("classes", "builder", "thresholds"):
        assert after[key] == before[key]
    assert config_from_dict(after["config"]).center.vote == 0.25
    after["config"]["center"]["vote"] = before["config"]["center"]["vote"]
    assert config_from_dict(after["config"]) == config_from_dict(before["config"])
    assert after["model"].keys() == before["model"].keys()
    for name, values in before["model"].items():
        assert after["model"][name].dtype == values.dtype
        assert torch.equal(after["model"][name], values)
    assert load_file(published / "model.safetensors").keys() == before["model"].keys()


@pytest.mark.parametrize("by", WAYS)
def test_what_scores_the_unknown_goes_along(by, run, tmp_path):
    drawn = [torch.randn(50, n) for n in (64, 11)]
    scorer = UnknownScorer.fit(*drawn, 1 + torch.arange(50) % 10, by=by)
    publish(load_checkpoint(run / "best.pth") | {"unknown": scorer.state()}, tmp_path, "open")
    again = detcenter.load(tmp_path, "cpu").unknown_scorer
    assert torch.equal(again(*drawn), scorer(*drawn)) and again.threshold == scorer.threshold
    assert f"by `{by}`" in (tmp_path / "README.md").read_text()


def test_enrolled_classes_go_along(run, tmp_path):
    drawn = torch.randn(50, 64)
    classes = EnrolledClasses.fit(drawn, 1 + torch.arange(50) % 10)
    classes.add("new", torch.randn(4, 64))
    classes.add("a.b", torch.randn(1, 64))
    publish(load_checkpoint(run / "best.pth") | {"enrolled": classes.state()}, tmp_path, "wide")
    model = detcenter.load(tmp_path, "cpu")
    assert model.classes == [*"0123456789", "new", "a.b"]
    assert torch.equal(model.box_classes(drawn), classes(drawn))
    assert "a few boxes: new, a.b." in (tmp_path / "README.md").read_text()


def test_the_card_says_what_was_measured_and_how_it_was_trained(run, published):
    card = (published / "README.md").read_text()
    _, header, text = card.split("---\n", 2)
    assert yaml.safe_load(header)["pipeline_tag"] == "object-detection"
    rows = [row for row in load_checkpoint(run / "best.pth")["rows"] if row["AP"]]
    assert f"| COCO's AP | {float(rows[-1]['AP']):.3f} |" in text
    assert "# model\n" in text and "Classes, from label 1: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in text
    assert "torchvision's `ssd` over shufflenet_v2_x0_5, at 64 pixels" in text
    assert "`digits`, in the layout `voc`; trained on the part `train`" in text
    recipe = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert config_from_dict(recipe) == config_from_dict(load_checkpoint(published)["config"])


def test_names_that_mean_something_in_markdown(run):
    checkpoint = load_checkpoint(run / "best.pth") | {"classes": ["a|b", "c\nd"]}
    checkpoint["rows"] = [{"epoch": "3", "AP": "0.5", "AP_by_class/a|b": "0.25", "AP50": ""}]
    card = model_card(checkpoint, "name")
    assert "| AP of a\\|b | 0.250 |" in card and "a\\|b, c d." in card and "After epoch 3" in card
    assert "Not measured" in model_card({**checkpoint, "rows": []}, "name")


def test_what_it_says(run, published, tmp_path, capsys):
    args = ["export", "--checkpoint", run / "best.pth", "--to", "safetensors", "--output"]
    assert "model.safetensors is there already" in fails(capsys, *args, published)
    assert "is a file; name a folder" in fails(capsys, *args, published / "README.md")
    said = fails(capsys, *args, tmp_path / "new", "--features")
    assert "--features is for graphs" in said and not (tmp_path / "new").exists()


def test_a_damaged_file_is_one_line(published, tmp_path, capsys):
    file = published / "model.safetensors"
    whole = file.read_bytes()
    predict = ["predict", "--checkpoint", published, tmp_path / "none.png"]
    for damaged in (b"", whole[:100], whole[:-100], b"\xff" * 40):
        file.write_bytes(damaged)
        assert "no safetensors file, or damaged" in fails(capsys, *predict)
    save_file({"a": torch.zeros(1)}, file)
    assert "say nothing of detcenter" in fails(capsys, *predict)
    save_file({"a": torch.zeros(1)}, file, {"detcenter": "{"})
    assert "cannot be read" in fails(capsys, *predict)
    save_file({"a": torch.zeros(1)}, file, {"detcenter": json.dumps({"classes": []})})
    assert "it has no builder, config" in fails(capsys, *predict)
    file.unlink()
    assert "not a readable checkpoint (a folder, not a file)" in fails(capsys, *predict)


def test_numbers_that_json_has_none_of(run, tmp_path):
    checkpoint = load_checkpoint(run / "best.pth") | {"thresholds": {"0": math.inf, "1": None}}
    publish(checkpoint, tmp_path, "name")
    assert load_checkpoint(tmp_path)["thresholds"] == checkpoint["thresholds"]
    save_checkpoint(tmp_path / "again.pth", **load_checkpoint(tmp_path))
    detcenter.load(tmp_path / "again.pth")


class Hub:
    """In the place of `huggingface_hub.HfApi`: keeps what is uploaded, or refuses it."""

    refusal: Exception | None = None
    made: dict[str, dict[str, bytes]] = {}

    def create_repo(self, name, *, private, exist_ok):
        assert private and exist_ok
        if self.refusal is not None:
            raise self.refusal
        self.made.setdefault(name, {})
        return f"hub/{name}"

    def upload_folder(self, *, folder_path, repo_id, allow_patterns, commit_message):
        assert commit_message
        files = {path.name: path.read_bytes() for path in folder_path.iterdir()}
        self.made[repo_id] |= {name: files[name] for name in allow_patterns}


def test_it_is_pushed_when_asked(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    (tmp_path / "my own.txt").write_text("not for others")
    args = ["export", "--checkpoint", run / "best.pth", "--output", tmp_path, "--push", "me/digits"]
    assert "--push uploads what" in fails(capsys, *args)
    args += ["--to", "safetensors"]
    assert main([str(arg) for arg in args]) == 0
    assert "uploaded to hub/me/digits" in capsys.readouterr().out
    assert Hub.made["me/digits"].keys() == {"model.safetensors", "README.md"}
    again = tmp_path / "again"
    again.mkdir()
    for name, content in Hub.made["me/digits"].items():
        (again / name).write_bytes(content)
    assert_same_model(detcenter.load(again, "cpu"), detcenter.load(run / "best.pth", "cpu"))
    monkeypatch.setattr(Hub, "refusal", ConnectionError("no way there\nand more"))
    said = fails(capsys, *args, "--overwrite")
    assert said.endswith(f"--push me/digits: no way there; {tmp_path} is written")
