"""Many images' detections in a few arrays give what a list of dictionaries gives."""

import contextlib
import io

import numpy as np
import pytest
import torch

from detcenter.evaluation import (
    ManyDetections,
    coco_metrics,
    evaluate_detections,
    fast,
    many,
    pycoco,
)
from detcenter.evaluation.many import one_after_the_other


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(many, "_AT_ONCE", 5)
    monkeypatch.setattr(pycoco, "_AT_ONCE", 5)
    monkeypatch.setattr(fast, "_AT_ONCE", 5)
    monkeypatch.setattr(pycoco, "_NUMBERS", 10)


def as_tensors(detections):
    return [{key: torch.as_tensor(x) for key, x in found.items()} for found in detections]


def test_a_sequence_of_what_was_put_in(few_at_once, random_case):
    _, detections, _ = random_case(0)
    listed = as_tensors(detections)
    listed[3] = {key: x[:0] for key, x in listed[3].items()}
    kept = ManyDetections.of(iter(listed))
    assert len(kept) == len(listed) == 12
    for found, expected in zip([*kept, kept[-1], *kept[2:4]], [*listed, listed[-1], *listed[2:4]],
                               strict=True):  # fmt: skip
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], x) for key, x in expected.items())
        assert all(found[key].dtype == x.dtype for key, x in expected.items())
    with pytest.raises(IndexError):
        kept[12]
    assert len(ManyDetections.of([])) == 0 and not [*ManyDetections.of([])]


def test_columns_one_after_the_other(few_at_once):
    rows = [(np.full(n, n), np.full((n, 2), n / 2)) for n in range(13)]
    whole, halves = one_after_the_other(iter(rows), (np.zeros(0, int), np.zeros((0, 2))))
    expected = [np.concatenate(column) for column in zip(*rows, strict=True)]
    np.testing.assert_array_equal(whole, expected[0])
    np.testing.assert_array_equal(halves, expected[1])
    assert one_after_the_other([], (np.zeros((0, 2), np.int8),))[0].shape == (0, 2)


def test_all_numbers_are_those_of_a_list(few_at_once, confused_case):
    annotations, detections, classes = confused_case(1, crowd=0.2, difficult=0.2, tied=True)
    kept = ManyDetections.of(as_tensors(detections))
    few = evaluate_detections(annotations, kept, classes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many, "_AT_ONCE", 1000)
        patch.setattr(pycoco, "_AT_ONCE", 1000)
        patch.setattr(pycoco, "_NUMBERS", 10**9)
        at_once = evaluate_detections(annotations, detections, classes)
    assert repr(few) == repr(at_once)


def test_a_few_classes_at_a_time_are_all_together(few_at_once, confused_case):
    case = confused_case(0, crowd=0.2, difficult=0.2, tied=True)
    assert [*fast._groups(case[1], 3)] == [range(1, 2), range(2, 3), range(3, 4)]
    few = fast.accumulate(*case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "_AT_ONCE", 10**6)
        assert [*fast._groups(case[1], 3)] == [range(1, 4)]
        at_once = fast.accumulate(*case)
    for some, whole in zip(few, at_once, strict=True):
        np.testing.assert_array_equal(some, whole)


@pytest.mark.parametrize("seed", range(3))
def test_a_few_images_at_a_time_are_pycocotools_to_the_bit(few_at_once, confused_case, seed):
    """All of it: every precision, recall and score at every recall, area and limit."""
    case = confused_case(seed, crowd=0.2, difficult=0.2, tied=seed == 2)
    found = pycoco.accumulate(*case)
    with contextlib.redirect_stdout(io.StringIO()):
        whole = pycoco._evaluation(*case)
        whole.params.maxDets = [1, 10, 100]
        whole.evaluate()
        whole.accumulate()
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(found, name), whole.eval[name])


def test_no_images_and_unequal_numbers():
    metrics = coco_metrics([], [], ["a", "b"])
    assert np.isnan(metrics["AP"]) and set(metrics["AP_by_class"]) == {"a", "b"}
    with pytest.raises(ValueError, match="0 annotations, but 1 detections"):
        coco_metrics([], [{"boxes": [], "scores": [], "labels": []}], ["a"])
