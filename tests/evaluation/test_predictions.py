"""Files of predictions, valid after every image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from detcenter.evaluation import FORMATS, Prediction

CLASSES = ["cat", "a\nbird", "dog"]


def prediction(boxes, labels, scores, frame=None, name="a", size=(100, 200)):
    detection = {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
    }
    image = np.zeros((*size, 3), np.uint8)
    return Prediction(Path(f"in/{name}.gif"), name, frame, image, detection)


FOUND = [
    prediction([[10.0, 20.0, 50.0, 40.0], [0.0, 0.0, 200.0, 100.0]], [3, 1], [0.5, 0.25], 0),
    prediction([], [], [], 1),
    prediction([[5.0, 5.0, 7.0, 9.0]], [2], [1.0], name="sub/b"),
]


def test_json_is_what_it_would_be_in_one_piece_and_valid_after_every_image(tmp_path):
    file = tmp_path / "detections.json"
    expected = []
    with FORMATS["json"](tmp_path, CLASSES) as write:
        for found in FOUND:
            assert json.loads(file.read_text()) == expected
            write(found)
            rows = [
                {"class": CLASSES[label - 1], "label": label, "score": score, "box": box}
                for box, label, score in zip(
                    *(found.detection[k].tolist() for k in ("boxes", "labels", "scores")),
                    strict=True,
                )
            ]
            frame = {} if found.frame is None else {"frame": found.frame}
            expected.append({"file": str(found.file)} | frame | {"detections": rows})
    assert file.read_text() == json.dumps(expected, indent=2)


def test_pycocotools_reads_both_files_together(tmp_path, capsys):
    with FORMATS["coco"](tmp_path, CLASSES) as write:
        for found in FOUND:
            write(found)
            images = json.loads((tmp_path / "images.coco.json").read_text())
    assert images["images"][1] == {
        "id": 2, "file_name": "in/a.gif", "width": 200, "height": 100, "frame": 1,
    }  # fmt: skip
    truth = COCO(str(tmp_path / "images.coco.json"))
    results = truth.loadRes(str(tmp_path / "predictions.coco.json"))
    assert [results.imgs[k]["file_name"] for k in (1, 2, 3)] == ["in/a.gif"] * 2 + ["in/sub/b.gif"]
    by_image = [results.imgToAnns[k] for k in (1, 2, 3)]
    assert [len(rows) for rows in by_image] == [2, 0, 1]
    first = by_image[0][0]
    assert first["bbox"] == [10, 20, 40, 20] and first["score"] == 0.5
    assert results.loadCats(first["category_id"])[0]["name"] == "dog"
    assert [c["name"] for c in truth.loadCats(truth.getCatIds())] == CLASSES


def test_yolo_has_a_file_an_image(tmp_path):
    with FORMATS["yolo"](tmp_path, CLASSES) as write:
        for found in FOUND:
            write(found)
    labels = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("*.txt")}
    assert labels.pop("classes.txt") == "cat\na bird\ndog\n"
    assert list(map(float, labels["labels/a_000000.txt"].split())) == pytest.approx(
        [2, 30 / 200, 30 / 100, 40 / 200, 20 / 100, 0.5, 0, 0.5, 0.5, 1, 1, 0.25]
    )
    assert labels["labels/a_000001.txt"] == ""
    assert labels["labels/sub/b.txt"] == "1 0.030000 0.070000 0.010000 0.040000 1.000000\n"
    assert len(labels) == 3


def test_nothing_found_at_all_is_valid_too(tmp_path):
    for name in FORMATS:
        with FORMATS[name](tmp_path, CLASSES):
            pass
    for file in ("detections.json", "predictions.coco.json"):
        assert (tmp_path / file).read_text() == "[]"
    images = json.loads((tmp_path / "images.coco.json").read_text())
    assert images["images"] == [] and len(images["categories"]) == 3
