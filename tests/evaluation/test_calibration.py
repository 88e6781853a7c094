import json
import math

import numpy as np
import pytest

from detcenter.evaluation import (
    calibration,
    calibration_line,
    evaluate_detections,
    flat_numbers,
    metrics_json,
)


def naive(scores, right):
    """Guo et al., eqs. 2 and 3, over bins of a tenth and what has at least 0.3."""
    kept = [(s, r) for s, r in zip(scores, right, strict=True) if s >= 0.3]
    error = 0.0
    for k in range(3, 10):
        bin = [(s, r) for s, r in kept if k / 10 <= s < (k + 1) / 10 or (k == 9 and s == 1)]
        if bin:
            confidence, accuracy = (sum(column) / len(bin) for column in zip(*bin, strict=True))
            error += len(bin) / len(kept) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_naive_loop(seed):
    rng = np.random.default_rng(seed)
    scores = np.append(rng.random(200), [0.3, 0.6, 0.7, 1.0, 1.0])
    right = rng.random(205) < scores**2
    found = calibration(scores, right)
    assert found["error"] == pytest.approx(naive(scores, right)) and found["error"] > 0.05
    bins = found["bins"]
    assert sum(bins["count"]) == (scores >= 0.3).sum()
    last = scores >= 0.9
    assert bins["count"][-1] == last.sum() and bins["to"][-1] == 1
    assert bins["score"][-1] == pytest.approx(scores[last].mean())
    assert bins["precision"][-1] == pytest.approx(right[last].mean())


def test_scores_that_are_probabilities_have_none():
    scores = np.repeat([0.35, 0.75], [20, 4])
    right = np.array([1] * 7 + [0] * 13 + [1] * 3 + [0], bool)
    assert calibration(scores, right)["error"] == pytest.approx(0, abs=1e-12)


def test_by_hand():
    found = calibration(np.array([0.95, 0.85, 0.85, 0.1]), np.array([True, False, True, False]))
    assert found["error"] == pytest.approx(1 / 3 * 0.05 + 2 / 3 * 0.35)
    assert found["bins"]["count"] == [0, 0, 0, 0, 0, 2, 1]
    assert math.isnan(found["bins"]["score"][0])
    assert calibration_line(found).startswith("calibration error 0.250 (3 detections with a score")


@pytest.mark.parametrize("scores", [[], [0.1, 0.29], [0.5, 3.0], [-4.0, 0.5]])
def test_no_likely_detections_or_scores_of_another_kind(scores):
    found = calibration(np.array(scores), np.ones(len(scores), bool))
    assert math.isnan(found["error"]) and sum(found["bins"]["count"]) == 0
    assert "error – (0" in calibration_line(found)


def test_what_is_right_is_what_took_an_object(annotation, detection):
    """Twice on one object, once on a crowd, once under another class."""
    box, crowd = [0, 0, 50, 50], [100, 100, 200, 200]
    truth = annotation(1, [box, crowd], crowd=[1])
    found = detection([box, box, crowd, box], [0.75, 0.625, 0.5, 0.375], [1, 1, 1, 2])
    metrics = evaluate_detections([truth], [found], ["a", "b"])
    bins = metrics["calibration"]["bins"]
    assert bins["count"] == [1, 0, 0, 1, 1, 0, 0]
    assert [bins["precision"][k] for k in (0, 3, 4)] == [0, 0, 1]
    error = (0.375 + 0.625 + 0.25) / 3
    assert metrics["calibration"]["error"] == pytest.approx(error)
    assert flat_numbers(metrics)["calibration_error"] == pytest.approx(error)
    read = json.loads(metrics_json(metrics))["calibration"]["bins"]
    assert read["score"][1] is None and read["score"][3] == 0.625
