"""Result files of any framework, measured without a model."""

import io
import json
import math
import random

import numpy as np
import pytest

from detcenter.cli import main
from detcenter.evaluation import coco_results, evaluate_detections, load_results, results
from detcenter.evaluation.coco import COCO_KEYS

from .coco_files import CATEGORY_IDS, plain_pycocotools, write_ground_truth


@pytest.fixture
def files(tmp_path, random_case):
    """An annotation file and a result file; classes are in the order of their ids in both."""
    annotations, detections, _ = random_case(5, crowd=0.1)
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    write_ground_truth(truth, annotations, ["a", "b", "c"])
    results.write_text(json.dumps(coco_results(annotations, detections, CATEGORY_IDS)))
    return truth, results


def evaluate(truth, results, *options):
    paths = ("--predictions", str(results), "--annotations", str(truth))
    return main(["evaluate", *paths, *map(str, options)])


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_a_result_file_has_pycocotools_numbers(files, tmp_path, capsys, backend):
    numbers = tmp_path / "numbers.json"
    assert evaluate(*files, "--json", numbers, "--evaluation.backend", backend) == 0
    printed = capsys.readouterr().out
    metrics = json.loads(numbers.read_text())
    ours = [math.nan if metrics[key] is None else metrics[key] for key in COCO_KEYS]
    theirs = [math.nan if x == -1 else x for x in plain_pycocotools(*files)]
    assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)
    assert 0.1 < metrics["AP"] < 0.9 and 0.1 < metrics["mAP_07"] < 0.9
    assert list(metrics["AP_by_class"]) == ["b", "a", "c"]  # categories 3, 7 and 90
    assert f"{metrics['AP']:.3f}" in printed and "\nb  " in printed


def test_what_is_written_is_read_back_to_the_bit(tmp_path, random_case):
    annotations, detections, classes = random_case(0)
    rng = np.random.default_rng(0)
    for found in detections:  # boxes of all the digits that float32 has
        found["boxes"] = found["boxes"] * np.float32(rng.random())
    rows = coco_results(annotations, detections, CATEGORY_IDS)
    rng.shuffle(rows)
    (tmp_path / "results.json").write_text(json.dumps(rows))

    ids = [annotation["image_id"] for annotation in annotations]
    read = load_results(tmp_path / "results.json", ids, CATEGORY_IDS)
    for found, expected in zip(read, detections, strict=True):
        order, wanted = np.argsort(found["scores"]), np.argsort(expected["scores"])
        for key in ("boxes", "scores", "labels"):
            assert np.array_equal(found[key][order], expected[key][wanted])
    metrics = [evaluate_detections(annotations, x, classes) for x in (read, detections)]
    np.testing.assert_equal(*metrics)


def fails(capsys, *args):
    assert main([str(arg) for arg in args]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("detcenter evaluate: ")
    return lines[0]


ENTRY = {"image_id": 0, "category_id": 7, "bbox": [1, 2, 3, 4.5], "score": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"annotations": []}', "results.json: not a list of detections; is it a COCO result"),
        (b"[1, 2", "results.json: not readable as JSON"),
        (b"\xff\xfe\x00", "results.json: not readable as JSON"),
        ([ENTRY, 3], "results.json: detection 2 is not an object but 3"),
        ([{"image_id": 0}], "detection 1 has no 'category_id'"),
        ([{**ENTRY, "image_id": 999}], "has the image_id 999, which the annotations do not have"),
        ([{**ENTRY, "image_id": "0"}], "has the image_id '0', which"),
        ([{**ENTRY, "image_id": [0]}], "has the image_id [0], which"),
        ([{**ENTRY, "category_id": 1}], "has the category_id 1, which"),
        ([{**ENTRY, "category_id": True}], "has the category_id True, which"),
        ([{**ENTRY, "bbox": [1, 2, 3]}], "has the bbox [1, 2, 3], not four numbers"),
        ([{**ENTRY, "bbox": "1 2 3 4"}], "has the bbox '1 2 3 4', not four"),
        ([{**ENTRY, "bbox": [1, 2, None, 4]}], "has the bbox [1, 2, None, 4], not four"),
        ([{**ENTRY, "bbox": [1, 2, math.nan, 4]}], "has the bbox [1, 2, nan, 4], not four"),
        ([{**ENTRY, "bbox": [1, 2, math.inf, 4]}], "has the bbox [1, 2, inf, 4], not four"),
        ([{**ENTRY, "bbox": [9, 9, -3, 4]}], "[9, 9, -3, 4]: the last two are width and height"),
        ([{**ENTRY, "score": "high"}], "has the score 'high', not a number"),
        ([{**ENTRY, "score": math.nan}], "has the score nan, not a number"),
        ([{**ENTRY, "score": 10**400}], "not a number"),
    ],
)
def test_a_wrong_result_file_is_one_line(tmp_path, annotation, capsys, content, message):
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    write_ground_truth(truth, [annotation(0, [[0, 0, 9, 9]])], ["a", "b", "c"])
    results.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    args = ("evaluate", "--predictions", results, "--annotations", truth)
    assert message in fails(capsys, *args)


def test_a_wrong_command_line_is_one_line(files, tmp_path, capsys):
    truth, results = files
    both = ("evaluate", "--predictions", results, "--annotations", truth)
    for args, message in (
        (("evaluate", "--predictions", results), "--annotations FILE is missing"),
        (("evaluate", "--annotations", truth), "--predictions FILE is missing"),
        ((*both, "--data.val", "x"), "--data.val is for checkpoints"),
        ((*both, "--detections", "x"), "--detections is for checkpoints"),
        ((*both, "--evaluation.backend", "cocoapi"), "takes pycocotools or hotcoco"),
        ((*both, "--prediction", "x"), "nearest known is 'predictions'"),
        ((*both[:3], "--annotations", results), "no list 'images'"),
        (("evaluate", "--predictions", tmp_path / "no.json", *both[3:]), "No such file"),
    ):
        assert message in fails(capsys, *args)


def test_without_hotcoco_nothing_is_begun(files, monkeypatch, capsys):
    monkeypatch.setattr("detcenter.recipe.extras.find_spec", lambda name: None)
    args = ("--predictions", files[1], "--annotations", files[0])
    line = fails(capsys, "evaluate", *args, "--evaluation.backend", "hotcoco")
    assert "pip install 'detcenter[fast]'; pycocotools gives the same numbers" in line


def test_an_empty_list_and_a_size_that_is_not_known(tmp_path, annotation, capsys):
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    write_ground_truth(truth, [annotation(1, [[380, 0, 440, 60]])], ["a", "b", "c"])
    results.write_text("[]")
    assert evaluate(truth, results) == 0 and "0.000" in capsys.readouterr().out
    # The box reaches out of the annotated size, which must be wrong: nothing is cut off.
    results.write_text(json.dumps([{**ENTRY, "image_id": 1, "bbox": [380, 0, 60, 60]}]))
    assert evaluate(truth, results, "--json", tmp_path / "numbers.json") == 0
    assert json.loads((tmp_path / "numbers.json").read_text())["AP"] == pytest.approx(1)


def test_a_long_file_is_read_in_pieces(monkeypatch):
    """As json.loads reads it, however it is cut, and damaged too."""
    draw = random.Random(0)

    def value(depth=0):
        kind = draw.randrange(7 if depth < 3 else 5)
        if kind == 5:
            return [value(depth + 1) for _ in range(draw.randrange(4))]
        if kind == 6:
            return {f"k{i}": value(depth + 1) for i in range(draw.randrange(4))}
        small = draw.random() * 10 ** draw.randrange(-8, 8)
        return [draw.randrange(10**5), small, 'a]},[\\"é' * draw.randrange(4), None, True][kind]

    def read(how, text):
        try:
            found = how(text)
            return found if isinstance(found, list) else "no list"
        except TypeError:
            return "no list"
        except ValueError:
            return "no JSON"

    said = []
    for number in range(1000):
        monkeypatch.setattr(results, "_CHARACTERS", draw.choice([1, 2, 3, 7, 50]))
        whole = [value() for _ in range(draw.randrange(5))]
        text = json.dumps(whole, indent=draw.choice([None, 1]), ensure_ascii=number % 2 == 0)
        if number % 3 == 0:
            at = draw.randrange(len(text) + 1)
            text = text[:at] + draw.choice(["", ",", "]", "[", "1", "x", " "]) + text[at + 1 :]
        expected = read(json.loads, text)
        assert read(lambda text: [*results._in_list(io.StringIO(text))], text) == expected
        said.append(expected if isinstance(expected, str) else "list")
    assert said.count("list") > 500 and said.count("no JSON") > 100
