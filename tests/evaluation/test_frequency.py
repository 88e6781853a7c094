"""Rare, common and frequent classes, by hand and by LVIS's own formula."""

import math

import numpy as np
import pytest

from detcenter.evaluation import (
    ap_by_frequency,
    coco_metrics,
    evaluate_detections,
    flat_numbers,
    frequency_groups,
    groups_in,
    pycoco,
    results_table,
)

BOX = [0, 0, 50, 50]


def in_images(annotation, counts):
    """Training images: class k is in counts[k - 1] of the first ones, twice in each."""
    return [
        annotation(i, [BOX] * 2 * len(there), np.repeat(there, 2))
        for i in range(max(counts))
        if (there := [k for k, count in enumerate(counts, start=1) if i < count])
    ]


def test_the_bounds_are_lvis(annotation):
    """An image counts once however many objects it has."""
    counts = {"a": 1, "b": 10, "c": 11, "d": 100, "e": 101, "f": 0}
    groups = frequency_groups(in_images(annotation, list(counts.values())), list(counts))
    assert groups == {
        "a": "rare", "b": "rare", "c": "common", "d": "common", "e": "frequent",
    }  # fmt: skip


def test_groups_that_a_file_names():
    categories = [
        {"id": 1, "frequency": "f", "image_count": 3},
        {"id": 2, "frequency": "r"},
        {"id": 3, "image_count": 11},
        {"id": 4, "frequency": ["c"], "image_count": "12"},
        {"id": 5},
    ]
    groups = groups_in(categories, list("abcde"))
    assert groups == {"a": "frequent", "b": "rare", "c": "common"}
    assert groups_in([], list("ab")) == {}


def test_means_by_hand():
    ap = {"a": 0.2, "b": 0.4, "c": 0.9, "d": math.nan, "e": 0.7}
    groups = {"a": "rare", "b": "rare", "c": "frequent", "d": "frequent"}
    found = ap_by_frequency(ap, groups)
    assert found["AP_rare"] == pytest.approx(0.3) and found["AP_frequent"] == 0.9
    assert math.isnan(found["AP_common"]) and len(found) == 3
    assert ap_by_frequency(ap, {"a": "rare", "b": "rare"}) == {}
    assert ap_by_frequency(ap, {}) == {}


def test_equals_lvis_formula(random_case):
    """LVISEval._summarize: the mean of what is defined in precision[:, :, classes of the group]."""
    annotations, detections, classes = random_case(3)
    classes = [*classes, "without objects"]
    groups = dict(zip(classes, ("rare", "frequent", "rare", "frequent"), strict=True))
    precision = pycoco.accumulate(annotations, detections, classes).precision[..., 0, -1]
    metrics = evaluate_detections(annotations, detections, classes, frequency=groups)
    for group in ("rare", "frequent"):
        s = precision[:, :, [k for k, name in enumerate(classes) if groups[name] == group]]
        assert metrics[f"AP_{group}"] == pytest.approx(np.mean(s[s > -1]), abs=1e-12)
    assert metrics["AP_rare"] != pytest.approx(metrics["AP"])
    assert flat_numbers(metrics)["AP_rare"] == metrics["AP_rare"]
    lines = results_table(metrics, classes).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("LVIS"))
    assert lines[at].split() == ["LVIS", "AP_rare", "AP_common", "AP_frequent"]
    rare, common, frequent = lines[at + 1].split()
    assert (rare, common) == (f"{metrics['AP_rare']:.3f}", "–") and frequent != "–"


def test_one_group_is_not_shown(random_case):
    case = random_case(3)
    metrics = evaluate_detections(*case, frequency=dict.fromkeys(case[2], "rare"))
    assert not any(key.startswith("AP_rare") for key in metrics)
    assert "LVIS" not in results_table(metrics, case[2])
    assert metrics["AP"] == coco_metrics(*case)["AP"]
