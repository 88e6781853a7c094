"""`detcenter evaluate` with its own IoU and limit, and what a run leaves for it."""

import csv
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detcenter.cli import main
from tests.command_line import fails


@pytest.fixture
def files(tmp_path):
    """Three objects of a, all found a fifth off, and one of b, found; in two images."""
    boxes = [[10, 10, 40, 40], [60, 10, 40, 40], [10, 60, 40, 40]]
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 200} for i in (1, 2)],
        "categories": [{"id": 4, "name": "a"}, {"id": 9, "name": "b"}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 4, "bbox": box} for k, box in enumerate(boxes)
        ]
        + [{"id": 3, "image_id": 2, "category_id": 9, "bbox": boxes[0]}],
    }
    found = [
        {"image_id": 1, "category_id": 4, "bbox": [x + 20, y, *sides], "score": 0.75}  # IoU 1/3
        for x, y, *sides in boxes
    ]
    found.append({"image_id": 2, "category_id": 9, "bbox": boxes[0], "score": 0.875})
    paths = tmp_path / "truth.json", tmp_path / "found.json"
    for path, content in zip(paths, (truth, found), strict=True):
        path.write_text(json.dumps(content))
    return paths


def measured(files, tmp_path, *options):
    truth, found = files
    args = ["--annotations", truth, "--predictions", found, "--json", tmp_path / "out.json"]
    assert main(["evaluate", *map(str, [*args, *options])]) == 0
    return json.loads((tmp_path / "out.json").read_text())


@pytest.mark.parametrize("option", ["--iou", "--evaluation.iou"])
def test_an_iou_of_ones_own(files, tmp_path, capsys, option):
    usual, other = (measured(files, tmp_path, *args) for args in ([], [option, 0.3]))
    assert (usual["mAP_12"], other["mAP_12"]) == (0.5, 1)
    assert usual["AP"] == other["AP"] and usual["AP50"] == pytest.approx(0.5) == other["AP50"]
    assert usual["confusion"]["matrix"][0] == [0, 0, 3]
    assert other["confusion"]["matrix"][0] == [3, 0, 0]
    assert usual["errors"]["loc"]["count"] == 3 and other["errors"]["loc"]["count"] == 0
    assert usual["best_by_class"]["a"]["threshold"] is None
    assert other["best_by_class"]["a"]["threshold"] == 0.75
    printed = capsys.readouterr().out
    first, second = printed[: len(printed) // 2], printed[len(printed) // 2 :]
    assert "AP50 (VOC 2012)" in first and "VOC at IoU" not in first
    for words in ("VOC at IoU 0.3", "AP30 (VOC 2012)", "dAP30"):
        assert words in second and words not in first


def test_an_iou_that_is_none_is_one_line(files, capsys):
    truth, found = files
    args = ("evaluate", "--annotations", truth, "--predictions", found)
    for value in ("0", "-1", "1.01", "nan", "half"):
        assert "iou" in fails(capsys, *args, "--iou", value)
        assert "evaluation.iou" in fails(capsys, *args, "--evaluation.iou", value)
    both = fails(capsys, *args, "--iou", "0.3", "--evaluation.iou", "0.4")
    assert "give one of them" in both
    limit = fails(capsys, *args, "--evaluation.max_detections", 0)
    assert limit.endswith("evaluation.max_detections is 0, the least is 1")
    assert main(["evaluate", *map(str, args[1:]), "--iou", "1"]) == 0


def test_more_objects_than_count_are_a_warning(files, tmp_path, caplog, capsys):
    assert measured(files, tmp_path)["settings"]["max_detections"] == 100 and not caplog.records
    metrics = measured(files, tmp_path, "--evaluation.max_detections", 2)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.name == "detcenter"
    assert "1.png, 3 of a" in record.message and "evaluation.max_detections: 3" in record.message
    assert "AR_2" in capsys.readouterr().out and "AR_2" in metrics and "AR_100" not in metrics


RELATIVE = "boxes look like parts of the image, 0 to 1; they must be pixels: 4 (1.png: a"
CORNERS = "boxes look like two corners where a corner, width and height are due: 4 (1.png: a"


@pytest.mark.parametrize("which", [0, 1], ids=["annotations", "predictions"])
@pytest.mark.parametrize("words, move", [(RELATIVE, 1 / 200), (CORNERS, 1)])
def test_boxes_in_other_units_are_a_warning(files, tmp_path, caplog, capsys, which, words, move):
    for path in files:
        content = json.loads(path.read_text())
        for row in content if isinstance(content, list) else content["annotations"]:
            x, y, w, h = row["bbox"] = [110, 110, 80, 60]
            if path == files[which]:
                row["bbox"] = (
                    [x, y, x + w, y + h] if move == 1 else [v * move for v in (x, y, w, h)]
                )
        path.write_text(json.dumps(content))
    metrics = measured(files, tmp_path)
    assert metrics["AP50"] == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.name == "detcenter"
    assert record.getMessage().startswith(f"{files[which]}: {words}")


def test_annotations_of_negative_width_are_a_warning(files, tmp_path, caplog, capsys):
    content = json.loads(files[0].read_text())
    content["annotations"][0]["bbox"] = [50, 10, -40, 40]
    files[0].write_text(json.dumps(content))
    assert measured(files, tmp_path)["AP50"] == pytest.approx(0.5)
    (record,) = caplog.records
    what = "boxes of negative width or height, which no detection can match: 1"
    assert record.getMessage() == f"{files[0]}: {what} (1.png: a [50, 10, 10, 50])"


def test_groups_that_the_annotations_name(files, tmp_path, capsys):
    truth, found = files
    content = json.loads(truth.read_text())
    for category, letter in zip(content["categories"], "rf", strict=True):
        category["frequency"] = letter
    truth.write_text(json.dumps(content))
    metrics = measured(files, tmp_path)
    assert metrics["AP_rare"] == metrics["AP_by_class"]["a"] == 0
    assert metrics["AP_frequent"] == metrics["AP_by_class"]["b"] > 0.9
    assert metrics["AP_common"] is None and "LVIS" in capsys.readouterr().out


def perfect(dataset, *rest):
    """What a perfect detector finds, every class with a score of its own; some twice, unsure."""
    found = []
    for annotation in dataset.annotations:
        boxes, labels = annotation["boxes"], annotation["labels"]
        scores = np.concatenate([0.5 + labels / 20, np.full(len(labels), 0.125)])
        found.append(
            {
                "boxes": torch.tensor(np.concatenate([boxes, boxes])).float(),
                "scores": torch.tensor(scores).float(),
                "labels": torch.tensor(np.concatenate([labels, labels])),
            }
        )
    return found


def test_a_run_keeps_thresholds_and_groups(recipe, tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setattr("detcenter.runs.run.detect_together", perfect)
    model = SimpleNamespace(roi_heads=SimpleNamespace(detections_per_img=2))
    monkeypatch.setattr("detcenter.commands.evaluate.detector_of", lambda *of: model)
    monkeypatch.setattr("detcenter.commands.evaluate.detect_in", perfect)
    monkeypatch.setattr("detcenter.evaluation.frequency._MOST", (3, 100))  # of eight images
    folder = tmp_path / "run"
    args = ["train", "--config", recipe, "--output", folder, "--train.epochs", 1]
    args += ["--evaluation.backend", "hotcoco", "--evaluation.max_detections", 1]
    args += ["--model.detections_per_img", 2]
    assert main([*map(str, args)]) == 0
    said = [record.message for record in caplog.records]
    assert sum("evaluation.max_detections" in line for line in said) == 1
    assert sum("model.detections_per_img" in line for line in said) == 1
    results = json.loads((folder / "results.json").read_text())
    best = {name: of["threshold"] for name, of in results["best_by_class"].items()}
    known = {name: score for name, score in best.items() if score is not None}
    assert len(known) > 5 and known["0"] == pytest.approx(0.55)
    checkpoints = [torch.load(folder / f"{x}.pth", weights_only=True) for x in ("last", "best")]
    assert [checkpoint["thresholds"] for checkpoint in checkpoints] == [known, known]
    assert {"rare", "common"} == set(checkpoints[0]["frequency"].values())
    assert results["AP_rare"] > 0 and results["AP_frequent"] is None
    with (folder / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    for key in ("AP_rare", "AP_common", "AR_1", "calibration_error"):
        number = results["calibration"]["error"] if key == "calibration_error" else results[key]
        assert float(row[key]) == pytest.approx(number, abs=1e-5)
    old = {k: x for k, x in checkpoints[0].items() if k not in ("thresholds", "frequency")}
    last = folder / "last.pth"
    for checkpoint, shown in ((checkpoints[0], True), (old, False)):
        torch.save(checkpoint, last)
        capsys.readouterr()
        assert (
            main(["evaluate", "--checkpoint", str(last), "--evaluation.max_detections", "9"]) == 0
        )
        assert ("LVIS" in capsys.readouterr().out) == shown
    # An earlier version's run is measured again, with a limit of one's own.
    assert main([*map(str, args), "--resume", "--evaluation.max_detections", "5"]) == 0
    assert torch.load(last, weights_only=True)["thresholds"] == known
    assert "AR_5" in json.loads((folder / "results.json").read_text())
