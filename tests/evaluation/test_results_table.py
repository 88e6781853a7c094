import json
import math

import pytest

from detcenter.evaluation import (
    coco_metrics,
    confusion_matrix,
    error_split,
    evaluate_detections,
    flat_numbers,
    metrics_json,
    results_table,
    voc_metrics,
)
from detcenter.evaluation.coco import COCO_KEYS


def test_evaluate_detections_holds_both(random_case):
    annotations, detections, classes = random_case(0)
    metrics = evaluate_detections(annotations, detections, classes)
    coco = coco_metrics(annotations, detections, classes)
    voc = voc_metrics(annotations, detections, classes)
    assert not coco.keys() & voc.keys() and metrics.keys() >= coco.keys() | voc.keys()
    for key in ("AP", "AP_by_class"):
        assert metrics[key] == coco[key]
    for key in ("mAP_07", "AP_12_by_class"):
        assert metrics[key] == voc[key]


def test_evaluate_detections_says_what_is_wrong(random_case):
    case = random_case(0)
    metrics = evaluate_detections(*case, score=0.25)
    matrix = confusion_matrix(*case, score=0.25).tolist()
    labels = ["a", "b", "c", "background"]
    assert metrics["confusion"] == {"labels": labels, "score": 0.25, "matrix": matrix}
    assert metrics["errors"] == error_split(*case[:2])


def test_flat_numbers_are_a_row():
    metrics = {
        "AP": 0.5,
        "AP_by_class": {"ant": 0.75, "bee": 0.25},
        "AP_small_by_class": {"ant": 0.5},
        "confusion": {"score": 0.5, "matrix": [[1]]},
        "errors": {"cls": {"count": 3, "dAP": 0.125}, "loc": {"count": 0, "dAP": 0.0}},
    }
    by_class = {"AP_by_class/ant": 0.75, "AP_by_class/bee": 0.25}
    errors = {"errors/cls": 0.125, "errors/loc": 0.0}
    assert flat_numbers(metrics) == {"AP": 0.5} | by_class | errors
    assert flat_numbers({}) == {}


def test_json_has_a_line_for_every_number_and_list():
    metrics = {"a": 0.5, "b": {"c": [1, 2]}, "d": [[1, 2], [3, 4]], "e": {}, "f": []}
    text = metrics_json(metrics)
    assert json.loads(text) == metrics and len(text.splitlines()) == 12
    assert '    "c": [1, 2]\n' in text and "\n    [3, 4]\n" in text


def test_json_has_null_for_nan(annotation, detection):
    truth = annotation(1, [[0, 0, 50, 50]])
    metrics = evaluate_detections([truth], [detection([[0, 0, 50, 50]], [0.9])], ["a", "b"])
    read = json.loads(metrics_json(metrics))
    assert read["AP_small"] is None and read["AP_medium"] == pytest.approx(1)
    assert read["AP_by_class"]["b"] is None and read["AP_12_by_class"] == {"a": 1, "b": None}
    assert math.isnan(metrics["AP_small"])  # the metrics themselves are left as they were


def test_table():
    metrics = {key: i / 8 for i, key in enumerate(COCO_KEYS, start=-3)}
    metrics |= {"AP_small": math.nan, "mAP_07": 0.25, "mAP_12": 1.0}
    metrics |= {
        "AP_by_class": {"cat": 0.5, "long name": math.nan},
        "AP_12_by_class": {"cat": 0.0625, "long name": math.nan},
    }
    metrics |= {"AP": 0.125, "AP50": 0.25, "AP75": 0.375}
    assert (
        results_table(metrics, ["cat", "long name"])
        == """\
COCO     AP   AP50    AP75  AP_small  AP_medium  AP_large
      0.125  0.250   0.375         –      0.125     0.250
       AR_1  AR_10  AR_100  AR_small  AR_medium  AR_large
      0.375  0.500   0.625     0.750      0.875     1.000

VOC  mAP_07  mAP_12
      0.250   1.000

class         AP  AP50 (VOC 2012)
cat        0.500            0.062
long name      –                –"""
    )
