import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detcenter.evaluation import best_threshold, evaluate_detections, metrics_json

from .test_confusion import share


def naive(scores, right, objects):
    """Precision, recall and F1 at every threshold; the first of the best, from the highest on."""
    if not any(right):
        return math.nan, math.nan, 0, 0
    best = None
    for threshold in sorted(set(scores), reverse=True):
        taken = [r for s, r in zip(scores, right, strict=True) if s >= threshold]
        precision, recall = sum(taken) / len(taken), sum(taken) / objects
        f1 = 2 * precision * recall / (precision + recall) if sum(taken) else 0.0
        if best is None or f1 > best[3] + 1e-12:
            best = threshold, precision, recall, f1
    return best


detections = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 1 / 3, 0.5, 0.75, 0.9]), st.booleans()), max_size=12
)


@given(detections, st.integers(0, 3))
def test_equals_a_naive_loop(detections, missed):
    scores = np.array([score for score, _ in detections])
    right = np.array([took for _, took in detections], bool)
    objects = int(right.sum()) + missed
    found = best_threshold(scores, right, objects)
    if right.any():
        assert list(found.values()) == pytest.approx(naive(scores, right, objects))
        taken = scores >= found["threshold"]  # what the threshold promises
        assert right[taken].mean() == pytest.approx(found["precision"])
        assert right[taken].sum() / objects == pytest.approx(found["recall"])


def test_by_hand():
    scores, right = np.array([0.6, 0.9, 0.8, 0.7]), np.array([True, True, False, False])
    # 1 of 1, 1 of 2, 1 of 3, 2 of 4 right; two objects: F1 2/3, 1/2, 2/5, 2/3. The surest wins.
    expected = {"threshold": 0.9, "precision": 1.0, "recall": 0.5, "f1": 2 / 3}
    assert best_threshold(scores, right, 2) == pytest.approx(expected)


def test_equal_scores_are_taken_together():
    found = best_threshold(np.full(3, 0.5), np.array([True, False, False]), 1)
    assert found == {"threshold": 0.5, "precision": 1 / 3, "recall": 1.0, "f1": 0.5}


def test_nothing_to_find_and_nothing_found():
    nothing = np.zeros(0), np.zeros(0, bool)
    wrong = np.array([0.9]), np.array([False])
    for found in (nothing, wrong):
        assert all(map(math.isnan, best_threshold(*found, 0).values()))
        best = best_threshold(*found, 2)
        assert best["recall"] == best["f1"] == 0
        assert math.isnan(best["threshold"]) and math.isnan(best["precision"])


@pytest.mark.parametrize("iou", [0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_detections_are_matched_class_by_class(confused_case, seed, iou):
    annotations, detections, classes = confused_case(
        seed, crowd=0.15, difficult=0.15, tied=seed > 1
    )
    best = evaluate_detections(annotations, detections, classes, "hotcoco", iou=iou)
    for label, name in enumerate(classes, start=1):
        objects, scores, right = matched(annotations, detections, label, iou)
        expected = naive(scores, right, objects)
        assert list(best["best_by_class"][name].values()) == pytest.approx(expected, nan_ok=True)


def matched(annotations, detections, label, iou):
    objects, scores, right = 0, [], []
    for truth, found in zip(annotations, detections, strict=True):
        ignored = truth["iscrowd"] | truth["difficult"]
        mine = [j for j in range(len(ignored)) if truth["labels"][j] == label]
        boxes, free = truth["boxes"].tolist(), [j for j in mine if not ignored[j]]
        objects += len(free)
        others = [j for j in mine if ignored[j]]
        for i in np.argsort(-found["scores"], kind="stable"):
            if found["labels"][i] != label:
                continue
            box = found["boxes"][i].tolist()
            near = [j for j in free if share(box, boxes[j], False) >= iou]
            if near:
                free.remove(max(near, key=lambda j: (share(box, boxes[j], False), j)))
            elif any(share(box, boxes[j], truth["iscrowd"][j]) >= iou for j in others):
                shares = {j: share(box, boxes[j], truth["iscrowd"][j]) for j in others}
                taken = max(others, key=lambda j: (shares[j], j))
                if not truth["iscrowd"][taken]:  # a crowd takes any number
                    others.remove(taken)
                continue
            scores.append(float(found["scores"][i]))
            right.append(bool(near))
    return objects, scores, right


def test_json_and_table_where_there_is_none(annotation, detection):
    truth = annotation(1, [[0, 0, 50, 50]])
    metrics = evaluate_detections([truth], [detection([[0, 0, 50, 50]], [0.75])], ["a", "b"])
    read = json.loads(metrics_json(metrics))["best_by_class"]
    assert read["a"] == {"threshold": 0.75, "precision": 1, "recall": 1, "f1": 1}
    assert read["b"] == dict.fromkeys(read["a"])
