"""`detcenter openset`, and what predict makes of the checkpoint that it writes."""

import json

import pytest
import torch

import detcenter
from detcenter.cli import main
from detcenter.runs import open_set as measuring
from detcenter.training import load_checkpoint, save_checkpoint
from detcenter.unknown import UnknownScorer
from tests.command_line import fails

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    """The first call trains; what an untrained detector finds counts as right."""
    folder = tmp_path_factory.mktemp("open")
    options = ["--train.epochs", "1", "--data.unknown", "[3, 8]", "--data.keep_unknown_images"]
    args = ["openset", "--config", str(recipe), *options, "true", "--output", str(folder / "run")]
    args += ["--score", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "right_detections", all_right)
        files = ["--json", str(folder / "numbers.json"), "--save", str(folder / "open.pth")]
        assert main([*args, *files, "--by", "energy"]) == 0
    return folder, args


def all_right(_, detections, __):
    found = [torch.ones(len(x["scores"]), dtype=torch.bool) for x in detections]
    assert sum(map(len, found)) > 0
    return torch.cat(found).numpy()


def test_it_trains_measures_and_writes(trained):
    folder, _ = trained
    values = json.loads((folder / "numbers.json").read_text())
    assert values["unknown"] == ["3", "8"] and values["lose"] == 0.05
    assert values["unmarked"]["unknown_objects"] > 0
    assert {*values["by"]} == {*detcenter.unknown.WAYS}
    before, after = (load_checkpoint(folder / name) for name in ("run/last.pth", "open.pth"))
    assert after["classes"] == ["0", "1", "2", "4", "5", "6", "7", "9"] == before["classes"]
    assert after["unknown"]["by"] == "energy" and "unknown" not in before
    assert after.keys() == before.keys() | {"unknown"}


def test_a_finished_run_is_not_trained_again(trained, monkeypatch, capsys):
    folder, args = trained
    monkeypatch.setattr(measuring, "right_detections", all_right)
    before = (folder / "run" / "last.pth").stat().st_mtime_ns
    assert main(args) == 0
    printed = capsys.readouterr().out
    assert "1 of 1 runs are done" in printed and "mahalanobis" in printed
    assert (folder / "run" / "last.pth").stat().st_mtime_ns == before
    checkpoint = str(folder / "run" / "last.pth")
    assert main(["openset", "--checkpoint", checkpoint, "--score", "0"]) == 0
    assert capsys.readouterr().out in printed.replace("1 of 1 runs are done\n", "")


@pytest.fixture(scope="module")
def marking(run, tmp_path_factory):
    """A checkpoint whose scorer marks about half of the detections."""
    checkpoint = load_checkpoint(run / "last.pth")
    scorer = UnknownScorer("energy", {}, 0.0)
    path = tmp_path_factory.mktemp("marking") / "open.pth"
    save_checkpoint(path, **checkpoint | {"unknown": scorer.state()})
    return path


def predicted(marking, data, tmp_path, *more):
    scenes = [str(x) for x in sorted((data / "JPEGImages").iterdir())[:3]]
    args = ["predict", *scenes, "--checkpoint", str(marking), "--output", str(tmp_path / "out")]
    assert main([*args, "--score", "0.01", "--format", "json,coco,yolo", *more]) == 0
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    return scenes, [row["detections"] for row in found]


def test_predict_marks_what_is_unknown(marking, data, tmp_path):
    model = detcenter.load(marking)
    scores = torch.cat([x.detection["unknown_scores"] for x in detcenter.predict(model, data)])
    checkpoint = load_checkpoint(marking)
    threshold = float(scores.median())
    state = checkpoint["unknown"] | {"threshold": threshold}
    save_checkpoint(tmp_path / "half.pth", **checkpoint | {"unknown": state})
    scenes, found = predicted(tmp_path / "half.pth", data, tmp_path)
    unknown_label = len(checkpoint["classes"]) + 1
    rows = [row for of_image in found for row in of_image]
    marked = [row for row in rows if row["class"] == "unknown"]
    assert 0 < len(marked) < len(rows)
    for row in rows:
        assert (row in marked) == (row["unknown_score"] > threshold)
        assert (row["label"] == unknown_label) == (row in marked)
        assert ("looks_like" in row) == (row in marked)
        assert row.get("looks_like", row["class"]) in checkpoint["classes"]
    categories = json.loads((tmp_path / "out" / "images.coco.json").read_text())["categories"]
    assert categories[-1] == {"id": unknown_label, "name": "unknown"}
    assert (tmp_path / "out" / "classes.txt").read_text().endswith("unknown\n")
    assert len([*(tmp_path / "out").glob("*.png")]) == len(scenes)


def test_detections_are_those_without_a_scorer(marking, run, data):
    """Boxes, scores and labels do not change; and the scores are those of the boxes alone."""
    scenes = sorted((data / "JPEGImages").iterdir())[:2]
    with_scorer, without = detcenter.load(marking, "cpu"), detcenter.load(run / "last.pth", "cpu")
    assert not hasattr(without, "unknown_scorer")
    for one, other in zip(
        detcenter.predict(with_scorer, scenes), detcenter.predict(without, scenes), strict=True
    ):
        assert len(other.detection["boxes"]) > 0
        for key, value in other.detection.items():
            assert torch.equal(one.detection[key], value)
        energy = -one.detection["logits"][:, 1:].logsumexp(1)
        assert torch.equal(one.detection["unknown_scores"], energy)


def test_what_a_person_may_get_wrong(recipe, run, tmp_path, capsys):
    recipe_args = ["openset", "--config", str(recipe)]
    assert "data.unknown names the classes" in fails(capsys, *recipe_args)
    args = ["openset", "--checkpoint", str(run / "last.pth")]
    assert "--by is one of centers" in fails(capsys, *args, "--by", "magic")
    assert "--score is a number" in fails(capsys, *args, "--score", "2")
    assert "--lose is a share" in fails(capsys, *args, "--lose", "1")
    assert "or --checkpoint FILE" in fails(capsys, "openset")
    checkpoint = load_checkpoint(run / "last.pth")
    named = {"classes": ["unknown", *checkpoint["classes"][1:]]}
    save_checkpoint(tmp_path / "named.pth", **checkpoint | named)
    args = ["openset", "--checkpoint", str(tmp_path / "named.pth"), "--save", str(tmp_path / "x")]
    assert "has a class 'unknown'" in fails(capsys, *args)
    audit = ["audit", "--config", str(recipe), "--data.unknown", "[8]"]
    assert "an audit looks at all classes" in fails(capsys, *audit)
