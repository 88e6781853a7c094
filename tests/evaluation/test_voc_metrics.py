import math

import numpy as np
import pytest
from mean_average_precision import MetricBuilder

from detcenter.evaluation import voc_metrics


def test_an_example_by_hand(annotation, detection):
    """Three objects to find and one difficult one, in two images:

    score  image  what                    TP  FP  recall  precision
    0.9    1      first object             1   0    1/3   1
    0.8    1      nothing there            1   1    1/3   1/2
    0.7    1      first object again       1   2    1/3   1/3
    0.6    2      the difficult object     1   2    1/3   1/3
    0.5    2      third object             2   2    2/3   2/4
    0.4    1      second object, IoU 0.5   3   2    1     3/5

    11 points: recalls 0, 0.1, 0.2, 0.3 have 1, the other seven 3/5: (4 + 7 * 0.6) / 11
    area: 1 up to recall 1/3, and 3/5 from there on (1/2 rises to 3/5): 1/3 + 2/3 * 0.6
    """
    first, second, third, hard = ([x, 0, x + 10, 10] for x in (0, 50, 100, 150))
    annotations = [annotation(1, [first, second]), annotation(2, [third, hard], difficult=[1])]
    detections = [
        detection([[50, 0, 60, 5], first, [0, 90, 9, 99], first], [0.4, 0.9, 0.8, 0.7]),
        detection([hard, third], [0.6, 0.5]),
    ]
    metrics = voc_metrics(annotations, detections, ["a"])
    assert metrics["mAP_07"] == pytest.approx((4 + 7 * 0.6) / 11)
    assert metrics["mAP_12"] == pytest.approx(1 / 3 + 2 / 3 * 0.6)
    assert metrics["AP_07_by_class"] == {"a": metrics["mAP_07"]}
    assert metrics["AP_12_by_class"] == {"a": metrics["mAP_12"]}


def test_a_detection_is_compared_with_its_nearest_object_only(annotation, detection):
    """The second detection overlaps the free object with IoU 10/14, but the taken one with 12/12.

    COCO would give it the free one; the kit calls it a false positive.
    """
    taken, free = [0, 0, 12, 10], [2, 0, 14, 10]
    found = detection([taken, taken], [0.9, 0.8])
    metrics = voc_metrics([annotation(1, [taken, free])], [found], ["a"])
    assert metrics["mAP_12"] == pytest.approx(0.5)


def test_recall_levels_are_exact(annotation, detection):
    """3 of 10 objects is a recall of 0.3, which reaches the fourth level: 3 * 0.1 > 0.3."""
    objects = [[20 * i, 0, 20 * i + 10, 10] for i in range(10)]
    found = detection(objects[:3], [0.9, 0.8, 0.7])
    assert voc_metrics([annotation(1, objects)], [found], ["a"])["mAP_07"] == pytest.approx(4 / 11)


def independent_ap(annotations, detections, classes, levels):
    """By the PyPI package mean-average-precision; it has no working notion of difficult boxes."""
    metric = MetricBuilder.build_evaluation_metric("map_2d", num_classes=len(classes))
    # It counts boxes as inclusive pixel indices: the width is x2 - x1 + 1.
    inclusive = np.array([0, 0, 1, 1])
    for truth, found in zip(annotations, detections, strict=True):
        gt = np.column_stack(
            [truth["boxes"] - inclusive, truth["labels"] - 1, np.zeros((len(truth["labels"]), 2))]
        )
        metric.add(
            np.column_stack([found["boxes"] - inclusive, found["labels"] - 1, found["scores"]]), gt
        )
    value = metric.value(iou_thresholds=0.5, recall_thresholds=levels)[0.5]
    return {name: value[k]["ap"] for k, name in enumerate(classes)}


@pytest.mark.filterwarnings("ignore:::pandas")
@pytest.mark.filterwarnings("ignore:The behavior of DataFrame concatenation:FutureWarning")
@pytest.mark.parametrize("seed", range(3))
def test_equals_an_independent_package(random_case, seed):
    case = random_case(seed)
    metrics = voc_metrics(*case)
    for key, levels in (("AP_07_by_class", np.arange(11) / 10), ("AP_12_by_class", None)):
        assert metrics[key] == pytest.approx(independent_ap(*case, levels), abs=1e-6)
    assert 0.1 < metrics["mAP_12"] < 0.9


def devkit_curve(annotations, detections, label, threshold):
    """Box by box after VOCevaldet.m, without its +1: recall and precision."""
    objects, candidates = 0, []
    for truth, found in zip(annotations, detections, strict=True):
        ignored = truth["difficult"] | truth["iscrowd"]
        gt = [
            {"box": truth["boxes"][j], "ignored": ignored[j], "taken": False}
            for j in np.flatnonzero(truth["labels"] == label)
        ]
        objects += sum(not g["ignored"] for g in gt)
        for i in np.flatnonzero(found["labels"] == label):
            candidates.append((found["scores"][i], found["boxes"][i], gt))
    true, false, curve = 0, 0, []
    for _, box, gt in sorted(candidates, key=lambda candidate: -candidate[0]):
        overlaps = [naive_iou(box, g["box"]) for g in gt]
        best = gt[int(np.argmax(overlaps))] if gt else None
        if best is None or max(overlaps) < threshold:
            false += 1
        elif not best["ignored"]:
            true, false = (true, false + 1) if best["taken"] else (true + 1, false)
            best["taken"] = True
        curve.append((true / objects, true / max(true + false, 1)))
    return curve


def naive_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return float(width * height) / float(area)


def devkit_ap(curve):
    """11 points, and the sum over every rise of recall of the best precision from there on."""
    best_from = [max(p for _, p in curve[i:]) for i in range(len(curve))]
    points = [max([p for r, p in curve if r >= k / 10], default=0) for k in range(11)]
    recalls = [0.0] + [r for r, _ in curve]
    area = sum((recalls[i + 1] - recalls[i]) * best_from[i] for i in range(len(curve)))
    return sum(points) / 11, area


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_kit_written_as_loops(random_case, seed, iou):
    """With difficult boxes, crowds and many tied scores, which keep the order of the images."""
    annotations, detections, classes = random_case(seed, crowd=0.1, difficult=0.3, tied=True)
    metrics = voc_metrics(annotations, detections, classes, iou)
    for label, name in enumerate(classes, start=1):
        curve = devkit_curve(annotations, detections, label, iou)
        ap_07, ap_12 = devkit_ap(curve)
        assert metrics["AP_07_by_class"][name] == pytest.approx(ap_07, abs=1e-12)
        assert metrics["AP_12_by_class"][name] == pytest.approx(ap_12, abs=1e-12)


def test_no_detections_give_zero(annotation, detection):
    metrics = voc_metrics([annotation(1, [[0, 0, 9, 9]])], [detection()], ["a"])
    assert metrics["mAP_07"] == metrics["mAP_12"] == 0


def test_detections_of_ignored_objects_alone_give_zero(annotation, detection):
    box, hard = [0, 0, 9, 9], [50, 0, 59, 9]
    truth = annotation(1, [box, hard], difficult=[1])
    metrics = voc_metrics([truth], [detection([hard], [0.9])], ["a"])
    assert metrics["mAP_07"] == metrics["mAP_12"] == 0


@pytest.mark.parametrize("images", [0, 2])
def test_no_ground_truth_is_undefined(annotation, detection, images):
    annotations = [annotation(i, []) for i in range(images)]
    metrics = voc_metrics(annotations, [detection([[0, 0, 9, 9]], [0.9])] * images, ["a"])
    assert math.isnan(metrics["mAP_07"]) and math.isnan(metrics["mAP_12"])
    assert math.isnan(metrics["AP_12_by_class"]["a"])


def test_a_class_with_difficult_objects_only_stays_out_of_the_mean(annotation, detection):
    box, hard = [0, 0, 9, 9], [50, 0, 59, 9]
    truth = annotation(1, [box, hard], [1, 2], difficult=[1])
    metrics = voc_metrics([truth], [detection([box, hard], [0.9, 0.9], [1, 2])], ["a", "b", "c"])
    assert metrics["mAP_07"] == metrics["mAP_12"] == metrics["AP_12_by_class"]["a"] == 1
    assert math.isnan(metrics["AP_12_by_class"]["b"]) and math.isnan(metrics["AP_12_by_class"]["c"])


def test_boxes_without_area_match_nothing(annotation, detection):
    point = [5, 5, 5, 5]
    metrics = voc_metrics([annotation(1, [point])], [detection([point], [0.9])], ["a"])
    assert metrics["mAP_12"] == 0


def test_rejects_lists_of_different_lengths(annotation):
    with pytest.raises(ValueError, match="shorter"):
        voc_metrics([annotation(1, [])], [], ["a"])
