"""Precision and average precision of neighbours, against a loop and by hand."""

import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from detcenter.analysis import retrieval, retrieval_table


def by_a_loop(features, labels, searched, searched_labels, label):
    """Means over the queries of one class."""
    values = []
    for query, own in zip(features, labels, strict=True):
        if own != label:
            continue
        distances = [(float(np.linalg.norm(row - query)), k) for k, row in enumerate(searched)]
        hits = [searched_labels[k] == label for _, k in sorted(distances)]
        precisions = [sum(hits[: r + 1]) / (r + 1) for r in range(len(hits)) if hits[r]]
        values.append([hits[0], np.mean(hits[:10]), np.mean(precisions)])
    return np.mean(values, axis=0)


@pytest.mark.parametrize("cells", [1 << 24, 100])
def test_as_a_loop(monkeypatch, cells):
    """Also in many blocks."""
    monkeypatch.setattr(sys.modules["detcenter.analysis.retrieval"], "_CELLS", cells)
    rng = np.random.default_rng(0)
    labels, others = rng.integers(1, 4, 30), rng.integers(1, 4, 40)
    features, searched = (
        (rng.normal(size=(len(of), 6)) + np.eye(6)[of]).astype(np.float32)
        for of in (labels, others)
    )
    result = retrieval(features, labels, searched, others, ["a", "b", "c"])
    rows = []
    for label, name in enumerate("abc", start=1):
        row = result["by_class"][name]
        expected = by_a_loop(features, labels, searched, others, label)
        np.testing.assert_allclose([row[key] for key in ("P@1", "P@10", "AP")], expected)
        assert row["queries"] == (labels == label).sum() and row["boxes"] == (others == label).sum()
        assert row["chance"] == pytest.approx(row["boxes"] / 40)
        rows.append(expected)
    means = [result["mean"][key] for key in ("P@1", "P@10", "AP")]
    np.testing.assert_allclose(means, np.mean(rows, axis=0))


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    features, searched = rng.normal(size=(1, 4)), rng.normal(size=(50, 4))
    others = rng.integers(1, 3, 50)
    result = retrieval(features, np.array([2]), searched, others, ["a", "b"])
    scores = -np.linalg.norm(searched - features, axis=1)
    expected = average_precision_score(others == 2, scores)
    assert result["by_class"]["b"]["AP"] == pytest.approx(expected)


def test_by_hand():
    """On a line: the query at 0; a box of its class at 1 and at 3, another at 2."""
    result = retrieval(
        np.zeros((1, 1)),
        np.array([1]),
        np.array([[3.0], [2], [1]]),
        np.array([1, 2, 1]),
        ["a", "b"],
    )
    row = result["by_class"]["a"]
    assert row["P@1"] == 1 and row["P@10"] == pytest.approx(2 / 3)
    assert row["AP"] == pytest.approx((1 + 2 / 3) / 2)


def test_classes_without_queries_or_boxes_are_in_no_mean():
    result = retrieval(
        np.eye(2), np.array([1, 2]), np.eye(2)[:1], np.array([1]), ["both", "no box", "neither"]
    )
    assert result["by_class"]["no box"]["AP"] is None
    assert result["by_class"]["neither"] == {"queries": 0, "boxes": 0} | dict.fromkeys(
        ("P@1", "P@10", "AP", "chance")
    )
    assert result["mean"] == {"P@1": 1, "P@10": 1, "AP": 1, "chance": 1}
    lines = retrieval_table(result).splitlines()
    assert lines[2].split() == ["no", "box", "1", "0", "–", "–", "–", "–"]
    assert lines[-1].split() == ["mean", "1.000", "1.000", "1.000", "1.000"]


def test_nothing_at_all():
    empty = np.zeros((0, 3)), np.zeros(0, np.int64)
    assert retrieval(*empty, *empty, ["a"])["mean"]["AP"] is None
    alone = retrieval(np.ones((2, 3)), np.array([1, 1]), *empty, ["a"])
    assert alone["by_class"]["a"]["AP"] is None


def test_of_equal_features_the_first_is_nearer():
    same = np.ones((4, 3), np.float32)
    result = retrieval(same[:1], np.array([2]), same, np.array([1, 2, 1, 2]), ["a", "b"])
    row = result["by_class"]["b"]
    assert row["P@1"] == 0 and row["AP"] == pytest.approx((1 / 2 + 2 / 4) / 2)
