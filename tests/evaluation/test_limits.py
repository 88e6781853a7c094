"""How many detections COCO's numbers count, and the remark where objects are more."""

import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detcenter.data import COCODataset
from detcenter.evaluation import (
    ResampledAP,
    coco_metrics,
    coco_results,
    evaluate_detections,
    flat_numbers,
    limit_remarks,
    load_results,
    results_table,
)
from detcenter.evaluation.coco import coco_keys

from .coco_files import CATEGORY_IDS, write_ground_truth

DENSE = Path(__file__).parents[3] / "shared/cases/11-over-100-objects"


@pytest.fixture(scope="module")
def crowded(annotation, detection):
    """Two images of 60 objects of all sizes in two classes, 400 detections each, some tied."""
    rng = np.random.default_rng(0)
    annotations, detections = [], []
    for image_id in (7, 3):
        corners, sides = rng.uniform(0, 280, (60, 2)), rng.uniform(8, 120, (60, 2))
        boxes, labels = np.hstack([corners, corners + sides]), rng.integers(1, 3, 60)
        annotations.append(annotation(image_id, boxes, labels, crowd=[0, 1], difficult=[2, 3]))
        of = rng.integers(0, 60, 400)
        found = boxes[of] + rng.normal(0, 6, (400, 4))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        detections.append(detection(found, rng.integers(1, 200, 400) / 200, labels[of]))
    return annotations, detections, ["a", "b", "c"]


def by_pycocotools(folder, case, limit):
    """All twelve numbers from pycocotools' own arrays, evaluated with params.maxDets."""
    annotations, detections, classes = case
    ordinary = [a | {"area": np.where(a["difficult"], 1e12, a["area"])} for a in annotations]
    write_ground_truth(folder / "truth.json", ordinary, classes)
    (folder / "found.json").write_text(
        json.dumps(coco_results(annotations, detections, CATEGORY_IDS))
    )
    numbers = {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        found = truth.loadRes(str(folder / "found.json"))
        for most in (1, 10, limit):
            evaluation = COCOeval(truth, found, "bbox")
            evaluation.params.maxDets = [most]  # alone: no other limit has a say in it
            evaluation.evaluate()
            evaluation.accumulate()
            precision = evaluation.eval["precision"][..., 0]
            recall = evaluation.eval["recall"][..., 0]
            numbers[f"AR_{most}"] = mean(recall[..., 0])
    parts = {"AP": precision[..., 0], "AP50": precision[0, ..., 0], "AP75": precision[5, ..., 0]}
    for area, size in enumerate(("small", "medium", "large"), start=1):
        parts |= {f"AP_{size}": precision[..., area], f"AR_{size}": recall[..., area]}
    return numbers | {key: mean(part) for key, part in parts.items()}


def mean(part):
    return part[part > -1].mean() if (part > -1).any() else math.nan


@pytest.mark.parametrize("limit", [1, 5, 10, 25, 100, 300])
def test_every_limit_gives_pycocotools_numbers(tmp_path, crowded, limit):
    want = by_pycocotools(tmp_path, crowded, limit)
    for backend in ("pycocotools", "hotcoco"):
        metrics = coco_metrics(*crowded, backend, limit)
        assert {key for key in metrics if "_by_" not in key} == want.keys() == {*coco_keys(limit)}
        got = [metrics[key] for key in want]
        assert got == pytest.approx(list(want.values()), abs=1e-12, nan_ok=True)
        assert metrics["AP_medium"] > 0 and metrics["AR_large"] > 0


def test_limits_differ_and_classes_follow(crowded):
    few, many = (coco_metrics(*crowded, "hotcoco", limit) for limit in (5, 300))
    assert few["AP"] < many["AP"]
    for key in ("AP_by_class", "AP_medium_by_class"):
        assert few[key]["a"] < many[key]["a"]
    assert few["curves_by_class"]["a"] != many["curves_by_class"]["a"]


@pytest.mark.parametrize("limit", [5, 300])
def test_resampling_counts_as_many(crowded, limit):
    once = np.ones((1, 2), int)
    ap = coco_metrics(*crowded, max_detections=limit)["AP"]
    assert ResampledAP(*crowded, limit)(once)["AP"] == pytest.approx([ap], abs=1e-12)


def test_a_table_and_a_row_have_the_limit_in_their_names(crowded):
    metrics = evaluate_detections(*crowded, "hotcoco", max_detections=300)
    assert "AR_300" in results_table(metrics, crowded[2])
    row = flat_numbers(metrics)
    assert row["AR_300"] == metrics["AR_300"] and "AR_100" not in row
    assert "max_detections" not in row


@pytest.mark.skipif(not DENSE.exists(), reason="the case is not beside the project")
def test_300_perfect_boxes():
    dataset = COCODataset(None, DENSE / "dense_gt.json")
    ids = [annotation["image_id"] for annotation in dataset.annotations]
    found = load_results(DENSE / "dense_dt.json", ids, dataset.category_ids)
    case = dataset.annotations, found, dataset.classes
    # 34 of 101 recalls are reached by 100 of 300
    assert coco_metrics(*case, "hotcoco")["AP"] == pytest.approx(34 / 101)
    assert coco_metrics(*case, "hotcoco", 300)["AP"] == pytest.approx(1)
    (remark,) = limit_remarks(dataset.annotations, dataset.classes)
    assert "300 of cell" in remark and "evaluation.max_detections: 300" in remark


def test_remarks(annotation):
    boxes = [[0, 0, 9, 9]] * 7
    truth = [
        annotation(1, boxes[:3], [1, 2, 2]),
        annotation(2, boxes[:4], [2, 2, 2, 1]),
        annotation(3, boxes, [1, 1, 1, 1, 1, 2, 2], crowd=[0], difficult=[1, 2]),  # two and two
        annotation(4, []),
    ]
    assert limit_remarks(truth, ["a", "b"], 3, 4) == []
    assert limit_remarks(truth, ["a", "b"], 2) == [
        "1 validation image has more than 2 objects of one class (the most: 2.jpg, 3 of b), but "
        "COCO counts the best 2 detections of a class in an image, so that perfect ones cannot "
        "reach AP 1; evaluation.max_detections: 3 counts all"
    ]
    several, of_model = limit_remarks(truth, ["a", "b"], 1, 3)
    assert several.startswith("3 validation images have more than 1 objects of one class (the most")
    assert of_model == (
        "2 validation images have more objects than the 3 detections that the model gives in an "
        "image (the most: 2.jpg, 4); train it with model.detections_per_img: 4 or more"
    )
    assert limit_remarks([], ["a"], 1, 1) == []
