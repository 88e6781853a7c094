"""`center.vote`: in a training, and chosen for a checkpoint that was trained without it."""

import json

import pytest
import torch

import detcenter
from detcenter.cli import main
from detcenter.evaluation import load_detections
from detcenter.recipe.config import config_from_dict
from detcenter.recipe.datasets import validation_set
from detcenter.runs.passes import detect_in
from detcenter.training import load_checkpoint
from tests.command_line import fails

pytestmark = pytest.mark.slow
# The model of two short epochs is so sure of itself that only a vote of weight 1 is heard.


def changed(run, path, **center):
    """The checkpoint of ``run`` with another recipe; None takes a key out."""
    saved = load_checkpoint(run / "last.pth")
    known = saved["config"]["center"] | center
    saved["config"]["center"] = {key: value for key, value in known.items() if value is not None}
    torch.save(saved, path)
    return path


def scores_by(checkpoint, *options, found):
    """What `evaluate` finds."""
    args = ["evaluate", "--checkpoint", checkpoint, "--detections", found, *options]
    assert main([str(arg) for arg in args]) == 0
    return [row["score"] for row in json.loads(found.read_text())]


def scores_of(run, *vote):
    """What the library finds."""
    model = detcenter.load(run / "last.pth", "cpu")
    if vote:
        detcenter.vote(model, *vote)
    config = config_from_dict(load_checkpoint(run / "last.pth")["config"])
    found = detect_in(validation_set(config.data, model.classes), model, 8, 0)
    return [score for of_image in found for score in of_image["scores"].tolist()]


def test_a_checkpoint_votes_when_asked(run, tmp_path, capsys):
    found = tmp_path / "found.json"
    own = scores_by(run / "last.pth", found=found)
    assert own == pytest.approx(scores_of(run), abs=1e-5)
    by_softmax = scores_by(run / "last.pth", "--center.vote", "1", found=found)
    assert by_softmax == pytest.approx(scores_of(run, 1.0), abs=1e-5) and by_softmax != own
    old = changed(run, tmp_path / "old.pth", vote=None, vote_by="softmax", vote_scale=32.0)
    assert scores_by(old, found=found) == own
    voting = changed(run, tmp_path / "votes.pth", vote=1.0)
    assert scores_by(voting, found=found) == by_softmax
    assert scores_by(voting, "--center.vote", "null", found=found) == own
    assert detcenter.load(voting, "cpu").box_vote == 1.0


def test_predict_votes_too(run, data, tmp_path, capsys):
    image = sorted((data / "JPEGImages").iterdir())[0]
    args = ["predict", image, "--checkpoint", run / "last.pth", "--no-pictures", "--score", 0]
    found = []
    for options in ([], ["--center.vote", "1"]):
        output = tmp_path / f"out{len(options)}"
        assert main([str(arg) for arg in [*args, *options, "--output", output]]) == 0
        (of_image,) = json.loads((output / "detections.json").read_text())
        found.append([row["score"] for row in of_image["detections"]])
    model = detcenter.vote(detcenter.load(run / "last.pth", "cpu"), 1.0)
    (expected,) = detcenter.predict(model, image)
    assert found[1] == pytest.approx(expected.detection["scores"].tolist(), abs=1e-3)
    assert found[0] != found[1]


def test_a_run_with_votes_trains_as_without_and_is_measured_with_them(run, recipe, tmp_path):
    folder = tmp_path / "run"
    args = ["train", "--config", recipe, "--output", folder, "--center.vote", 1]
    assert main([str(arg) for arg in args]) == 0
    own, voting = (load_checkpoint(path / "last.pth") for path in (run, folder))
    assert all(torch.equal(x, voting["model"][name]) for name, x in own["model"].items())
    expected = scores_by(run / "last.pth", "--center.vote", "1", found=tmp_path / "found.json")
    found = load_detections(folder / "detections.npz")[1]
    scores = [score for of_image in found for score in of_image["scores"].tolist()]
    assert scores == pytest.approx(expected, abs=1e-5)
    assert scores == pytest.approx(scores_of(folder), abs=1e-5)


def test_votes_that_cannot_be_are_one_line(run, recipe, tmp_path, capsys):
    train = ("train", "--config", recipe, "--output", tmp_path / "run")
    for options, message in (
        (("--center.vote", 1.5), "center.vote is 1.5, the most is 1"),
        (("--center.vote", -1), "center.vote is -1.0, the least is 0"),
        (("--center.vote", "much"), "center.vote takes a number or null, not much"),
        (("--center.votes", 1), "the nearest known is 'center.vote'"),
        (("--center.vote", 0.5, "--center.features", "cell"), "center.vote: nothing embeds"),
        (("--center.vote", 0.5, "--center.embedding_weight", 0), "center.vote: the embedding's"),
    ):
        assert message in fails(capsys, *train, *options)
    assert not (tmp_path / "run").exists()
    evaluate = ("evaluate", "--checkpoint", run / "last.pth")
    assert "center.vote is 2.0, the most is 1" in fails(capsys, *evaluate, "--center.vote", 2)
    assert "--center.weight" in fails(capsys, *evaluate, "--center.weight", 2)
    centers = changed(run, tmp_path / "centers.pth", vote=1.0, vote_by="centers")
    line = fails(capsys, "evaluate", "--checkpoint", centers)
    assert "of an earlier version of detcenter: its centers vote" in line
    both = ("evaluate", "--predictions", "a", "--annotations", "b", "--center.vote", 0.5)
    assert "--center.vote is for checkpoints" in fails(capsys, *both)
    saved = load_checkpoint(run / "last.pth")
    saved["config"]["center"] = None
    torch.save(saved, tmp_path / "plain.pth")
    evaluate = ("evaluate", "--checkpoint", tmp_path / "plain.pth", "--center.vote", 0.5)
    assert "--center.vote: the checkpoint's recipe has center: null" in fails(capsys, *evaluate)
