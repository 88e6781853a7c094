"""`detcenter enroll`, and what predict, evaluate and load make of the checkpoint that it writes."""

import json

import numpy as np
import pytest
import torch

import detcenter
from detcenter.cli import main
from detcenter.data import make_digits
from detcenter.recipe.config import config_from_dict
from detcenter.recipe.datasets import part_of, validation_set
from detcenter.runs.enrolment import FewBoxes, annotated_boxes, some_boxes
from detcenter.runs.passes import detect_in, features_in
from detcenter.training import load_checkpoint, save_checkpoint
from detcenter.unknown import UnknownScorer
from tests.command_line import fails

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def known(recipe, tmp_path_factory):
    """The checkpoint of a training without 3 and 8."""
    folder = tmp_path_factory.mktemp("enroll") / "run"
    options = ["--train.epochs", "1", "--data.unknown", "[3, 8]", "--data.keep_unknown_images"]
    args = ["train", "--config", str(recipe), *options, "true", "--output", str(folder)]
    assert main(args) == 0
    return folder / "last.pth"


@pytest.fixture(scope="module")
def with_eight(known):
    path = known.with_name("eight.pth")
    args = ["enroll", "--checkpoint", str(known), "--class", "8", "--output", str(path)]
    assert main(args) == 0
    return path


def enrolled(path):
    return load_checkpoint(path)["enrolled"]["enrolled"]


def test_the_prototype_is_the_mean_of_the_boxes(known, with_eight):
    """As the library gives their features, on the unit sphere."""
    before, after = load_checkpoint(known), load_checkpoint(with_eight)
    assert after.keys() == before.keys() | {"enrolled"} and after["classes"] == before["classes"]
    model = detcenter.load(known, "cpu")
    data = config_from_dict(before["config"]).data
    data.unknown = None
    whole = part_of(data, "train", [str(digit) for digit in range(10)])
    found = features_in(whole, model, 8, 0)
    own = found["features"][found["labels"] == 9]
    (modes,) = enrolled(with_eight).values()
    assert modes["counts"].sum() == len(own)
    mean = (own / np.linalg.norm(own, axis=1, keepdims=True)).mean(0)
    shares = (modes["counts"] / modes["counts"].sum()).numpy()[:, None]
    assert (shares * modes["centers"].numpy()).sum(0) == pytest.approx(mean, abs=1e-4)


def test_predict_load_and_evaluate_find_the_class(known, with_eight, data, tmp_path, capsys):
    own, model = (detcenter.load(path, "cpu") for path in (known, with_eight))
    assert own.classes == ["0", "1", "2", "4", "5", "6", "7", "9"]
    assert model.classes == [*own.classes, "8"]
    image = sorted((data / "JPEGImages").iterdir())[0]
    (found,) = detcenter.predict(model, image)
    args = ["predict", image, "--checkpoint", with_eight, "--no-pictures", "--score", 0]
    assert main([str(arg) for arg in [*args, "--output", tmp_path]]) == 0
    (of_image,) = json.loads((tmp_path / "detections.json").read_text())
    names = [model.classes[label - 1] for label in found.detection["labels"]]
    assert [row["class"] for row in of_image["detections"]] == names and "8" in names

    path = tmp_path / "numbers.json"
    assert main(["evaluate", "--checkpoint", str(with_eight), "--json", str(path)]) == 0
    numbers = json.loads(path.read_text())
    assert numbers["AP_by_class"].keys() == {*model.classes}
    assert "8" in capsys.readouterr().out
    data = config_from_dict(load_checkpoint(known)["config"]).data
    dataset = validation_set(data, own.classes, ["8"])
    assert dataset.classes == model.classes
    eights = [
        (a["path"].name, box.tolist())
        for a in dataset.annotations
        for box in a["boxes"][a["labels"] == 9]
    ]
    every = part_of(config_of_all(data), "val", [str(digit) for digit in range(10)])
    assert eights == [
        (a["path"].name, box.tolist())
        for a in every.annotations
        for box in a["boxes"][a["labels"] == 9]
    ]
    assert detect_in(dataset, model, 8, 0)[0].keys() == {"boxes", "scores", "labels"}


def config_of_all(data):
    data.unknown = None
    return data


def test_boxes_of_another_data_set_and_a_second_class(with_eight, known, tmp_path, capsys):
    """The first class told where the taught ones lie, so that their data are not read again."""
    make_digits(tmp_path / "other", train=6, val=2, seed=5)
    both = tmp_path / "both.pth"
    args = ["enroll", "--checkpoint", str(with_eight), "--images", str(tmp_path / "other")]
    args += ["--class", "3", "--boxes", "2", "--output", str(both), "--data.root", "nowhere"]
    assert main(args) == 0
    counts = enrolled(both)["3"]["counts"]  # of an untrained detector they may be two groups
    groups = f", which fall apart into {len(counts)} groups" if len(counts) > 1 else ""
    assert counts.sum() == 2
    said = f"'3' is enrolled by 2 boxes{groups}; enrolled classes: '8', '3'"
    assert said in capsys.readouterr().out
    assert detcenter.load(both, "cpu").classes[-2:] == ["8", "3"]
    assert [*enrolled(both)] == ["8", "3"]
    again = tmp_path / "again.pth"
    args[args.index("--boxes") + 1], args[args.index(str(both))] = "1", str(again)
    args[args.index(str(with_eight))] = str(both)
    assert main(args) == 0
    assert "'3' is enrolled again by 1 box;" in capsys.readouterr().out
    less = tmp_path / "less.pth"
    args = ["enroll", "--checkpoint", str(both), "--remove", "8", "--output", str(less)]
    assert main(args) == 0
    assert "without '8'; enrolled classes: '3'" in capsys.readouterr().out
    args = ["enroll", "--checkpoint", str(less), "--remove", "3", "--output", str(less)]
    assert main(args) == 0
    own = load_checkpoint(known)
    assert all(torch.equal(x, own["model"][k]) for k, x in load_checkpoint(less)["model"].items())
    assert load_checkpoint(less)["enrolled"] is None
    assert detcenter.load(less, "cpu").classes == own["classes"]


def test_boxes_that_a_person_names(known, data, tmp_path):
    """They are the annotated ones, so that the class is the same."""
    config = config_from_dict(load_checkpoint(known)["config"]).data
    few = annotated_boxes(config, "8")
    args = ["enroll", "--checkpoint", known, "--class", "8", "--output", tmp_path / "named.pth"]
    for annotation, boxes in zip(few.images.annotations, few.boxes, strict=True):
        for box in boxes.tolist():
            args += ["--box", annotation["path"], ",".join(map(str, box))]
    assert main([str(arg) for arg in args]) == 0
    whole = tmp_path / "whole.pth"
    assert main(["enroll", "--checkpoint", str(known), "--class", "8", "--output", str(whole)]) == 0
    one, other = (enrolled(path)["8"] for path in (tmp_path / "named.pth", whole))
    for key, value in other.items():
        torch.testing.assert_close(one[key], value, rtol=1e-4, atol=1e-5)


def test_some_boxes_are_of_all_and_the_same_for_a_seed(known):
    few = annotated_boxes(config_from_dict(load_checkpoint(known)["config"]).data, "8")
    every = boxes_of(few)
    assert len(every) == few.total > 1
    drawn = [boxes_of(some_boxes(few, 1, seed)) for seed in range(8)]
    assert all(len(of) == 1 and of < every for of in drawn)
    assert drawn[0] == boxes_of(some_boxes(few, 1, 0)) and len({*map(frozenset, drawn)}) > 1
    assert boxes_of(some_boxes(few, few.total, 0)) == every


def boxes_of(few: FewBoxes):
    pairs = zip(few.images.annotations, few.boxes, strict=True)
    return {(a["path"].name, *box) for a, boxes in pairs for box in boxes.tolist()}


def test_what_is_enrolled_is_not_marked_as_unknown(with_eight, data, tmp_path):
    checkpoint = load_checkpoint(with_eight)
    width = enrolled(with_eight)["8"]["centers"].shape[1]
    rows = torch.randn(9, width), torch.randn(9, 9), torch.ones(9, dtype=torch.long)
    scorer = UnknownScorer.fit(*rows, by="energy")
    scorer.threshold.fill_(-torch.inf)  # all is
    save_checkpoint(tmp_path / "open.pth", **checkpoint | {"unknown": scorer.state()})
    image = sorted((data / "JPEGImages").iterdir())[0]
    args = ["predict", image, "--checkpoint", tmp_path / "open.pth", "--no-pictures", "--score", 0]
    assert main([str(arg) for arg in [*args, "--output", tmp_path]]) == 0
    (of_image,) = json.loads((tmp_path / "detections.json").read_text())
    assert {row["class"] for row in of_image["detections"]} == {"unknown", "8"}


def test_wrong_command_lines_are_one_line(known, with_eight, data, tmp_path, capsys):
    image = sorted((data / "JPEGImages").iterdir())[0]
    out = tmp_path / "out.pth"
    new = ["--class", "8"]
    for options, message in (
        ([], "--class NAME enrolls a class, --remove NAME forgets one"),
        ([*new, "--remove", "8"], "give one of them"),
        (["--class", "9"], "'9' is a class that the checkpoint was taught"),
        (["--class", "eight"], "has no class 'eight'"),
        ([*new, "--boxes", 0], "--boxes is 1 or more, not 0"),
        ([*new, "--boxes", 999], "--boxes 999: there are "),
        ([*new, "--images", tmp_path / "none"], "is no folder"),
        ([*new, "--images", tmp_path, "--box", image, "1,2,3,4"], "--images and --box both"),
        (
            [*new, "--box", image, "1,2,3"],
            "four numbers are due, x1,y1,x2,y2",
        ),
        ([*new, "--box", image, "9,9,4,20"], "BOX 9,9,4,20 has no area"),
        ([*new, "--box", image, "9,9,20,2000"], "BOX 9,9,20,2000 reaches out of "),
        ([*new, "--box", image, "nan,9,20,20"], "four numbers are due"),
        ([*new, "--box", tmp_path / "none.jpg", "1,2,3,4"], "none.jpg"),
        (["--remove", "8"], "the checkpoint has no enrolled classes"),
    ):
        args = ["enroll", "--checkpoint", known, "--output", out, *options]
        assert message in fails(capsys, *args), options
    args = ["enroll", "--checkpoint", with_eight, "--output", out, "--remove", "3"]
    assert "no class '3' is enrolled" in fails(capsys, *args)
    assert "output" in fails(capsys, "enroll", "--checkpoint", known, *new)
    assert not out.exists()


def test_data_of_classes_that_it_does_not_know(with_eight, capsys):
    args = ["evaluate", "--checkpoint", with_eight, "--data.unknown", "null"]
    assert "has objects of 3, which the checkpoint was not taught and has not enrolled" in fails(
        capsys, *args
    )


def test_a_checkpoint_of_an_older_version(with_eight, data, tmp_path, capsys):
    checkpoint = load_checkpoint(with_eight)
    del checkpoint["enrolled"]["taught"]["variance"]
    older = tmp_path / "older.pth"
    save_checkpoint(older, **checkpoint)
    image = next((data / "JPEGImages").iterdir())
    more = ["--class", "3", "--output", str(tmp_path / "both.pth")]
    for args in (
        ["predict", "--checkpoint", older, image],
        ["enroll", "--checkpoint", older, *more],
    ):
        said = fails(capsys, *args)
        assert "older.pth: its classes were enrolled by an older detcenter" in said
