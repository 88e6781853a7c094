import json
import math

import numpy as np
import pytest
import torch

from detcenter.evaluation import coco_metrics, coco_results
from detcenter.evaluation.coco import COCO_KEYS

from .coco_files import CATEGORY_IDS, plain_pycocotools, write_ground_truth


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools_reading_files(tmp_path, random_case, seed):
    annotations, detections, classes = random_case(seed, crowd=0.2, tied=seed == 3)
    write_ground_truth(tmp_path / "truth.json", annotations, classes)
    rows = coco_results(annotations, detections, CATEGORY_IDS)
    (tmp_path / "found.json").write_text(json.dumps(rows))

    metrics = coco_metrics(annotations, detections, classes)

    files = (tmp_path / "truth.json", tmp_path / "found.json")
    ours = [metrics[key] for key in COCO_KEYS]
    theirs = [math.nan if x == -1 else x for x in plain_pycocotools(*files)]
    assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)
    assert 0.1 < metrics["AP"] < 0.9
    for name, category_id in zip(classes, CATEGORY_IDS, strict=True):
        alone = plain_pycocotools(*files, [category_id])[0]
        assert metrics["AP_by_class"][name] == pytest.approx(alone, abs=1e-12)


def test_without_crowds_the_random_cases_give_other_numbers(random_case):
    """Crowds matter in the comparison above."""
    annotations, detections, classes = random_case(0, crowd=0.2)
    ordinary = [a | {"iscrowd": np.zeros_like(a["iscrowd"])} for a in annotations]
    with_crowds = coco_metrics(annotations, detections, classes)["AP"]
    assert coco_metrics(ordinary, detections, classes)["AP"] != pytest.approx(with_crowds)


OBJECT, REGION = [300, 300, 350, 350], [0, 0, 200, 200]


@pytest.mark.parametrize("kind", ["difficult", "crowd"])
def test_an_ignored_object_neither_needs_nor_punishes_a_detection(annotation, detection, kind):
    truth = annotation(1, [REGION, OBJECT], **{kind: [0]})
    missed = detection([OBJECT], [0.8])
    found = detection([OBJECT, REGION], [0.8, 0.9])
    for detections in (missed, found):
        assert coco_metrics([truth], [detections], ["a"])["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    # The second detection of a difficult object is a false positive ahead of the one true
    # positive: precision 1/2 at every recall. A crowd takes any number of detections.
    [("difficult", 0.5), ("crowd", 1.0)],
)
def test_a_second_detection_of_an_ignored_object(annotation, detection, kind, expected):
    truth = annotation(1, [REGION, OBJECT], **{kind: [0]})
    found = detection([REGION, REGION, OBJECT], [0.9, 0.85, 0.8])
    assert coco_metrics([truth], [found], ["a"])["AP"] == pytest.approx(expected)


@pytest.mark.parametrize(("kind", "expected"), [("difficult", 0.5), ("crowd", 1.0)])
def test_a_small_detection_inside_an_ignored_object(annotation, detection, kind, expected):
    """Lies wholly inside a crowd, but has an IoU of 1/400 with a difficult object."""
    truth = annotation(1, [REGION, OBJECT], **{kind: [0]})
    found = detection([[10, 10, 20, 20], OBJECT], [0.9, 0.8])
    assert coco_metrics([truth], [found], ["a"])["AP"] == pytest.approx(expected)


def test_results_are_plain_numbers_in_xywh():
    detection = {
        "boxes": torch.tensor([[10.0, 20.0, 40.0, 60.5]], dtype=torch.bfloat16),
        "scores": torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True),
        "labels": torch.tensor([3]),
    }
    rows = coco_results([{"image_id": np.int64(5)}], [detection], CATEGORY_IDS)
    # bfloat16 has 8 bits of mantissa: 60.5 is exact.
    expected = {"image_id": 5, "category_id": 90, "bbox": [10, 20, 30, 40.5], "score": 0.5}
    assert rows == [expected]
    assert json.loads(json.dumps(rows)) == [expected]


def test_no_detections_give_zeros(annotation, detection):
    metrics = coco_metrics([annotation(1, [OBJECT])], [detection()], ["a"])
    assert metrics["AP"] == metrics["AR_100"] == metrics["AP_medium"] == 0
    assert math.isnan(metrics["AP_small"])  # there is no small object
    assert metrics["AP_by_class"] == {"a": 0}


@pytest.mark.parametrize("images", [0, 2])
def test_no_ground_truth_is_undefined(annotation, detection, images):
    annotations = [annotation(i, []) for i in range(images)]
    found = [detection([OBJECT], [0.9])] * images
    metrics = coco_metrics(annotations, found, ["a", "b"])
    assert all(math.isnan(metrics[key]) for key in COCO_KEYS)
    assert all(math.isnan(ap) for ap in metrics["AP_by_class"].values())


def test_an_absent_class_stays_out_of_the_mean(annotation, detection):
    truth = annotation(1, [OBJECT], [2])
    metrics = coco_metrics([truth], [detection([OBJECT] * 2, [0.9] * 2, [1, 2])], ["a", "b"])
    assert metrics["AP"] == metrics["AP_by_class"]["b"] == pytest.approx(1)
    assert math.isnan(metrics["AP_by_class"]["a"])


def test_prints_nothing(annotation, detection, capfd):
    coco_metrics([annotation(1, [OBJECT])], [detection([OBJECT], [0.9])], ["a"])
    assert capfd.readouterr() == ("", "")


def test_rejects_what_cannot_be_right(annotation, detection):
    truth = annotation(4, [OBJECT])
    with pytest.raises(ValueError, match="image_id 4 appears more than once"):
        coco_metrics([truth, truth], [detection()] * 2, ["a"])
    with pytest.raises(ValueError, match="1 annotations, but 0 detections"):
        coco_metrics([truth], [], ["a"])
    with pytest.raises(ValueError, match="0 is background"):
        coco_metrics([truth], [detection([OBJECT], [0.9], [0])], ["a"])
    with pytest.raises(ValueError, match="1 boxes, 2 scores and 1 labels"):
        coco_metrics([truth], [detection([OBJECT], [0.9, 0.8])], ["a"])
