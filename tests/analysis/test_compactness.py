import json

import numpy as np
import pytest
from scipy.stats import ortho_group
from sklearn.metrics import silhouette_samples, silhouette_score

from detcenter.analysis import compactness, compactness_table
from detcenter.analysis.compactness import proportional_subset

CLASSES = ["cat", "dog", "bird"]


def blobs(seed=0, counts=(30, 12, 50), dim=5):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(1, len(counts) + 1), counts))
    means = rng.normal(size=(len(counts), dim)) * 2
    return means[labels - 1] + rng.normal(size=(len(labels), dim)), labels


def numbers(result):
    """All numbers of a result in one fixed order."""
    rows = [result, *result["by_class"].values()]
    keys = ("within", "between", "ratio", "silhouette", "distance")
    return [row[key] for row in rows for key in keys if key in row]


def test_by_hand():
    features = np.array([[0, 0], [2, 0], [1, 4], [1, 6], [1, -20]])
    result = compactness(features, np.array([1, 1, 2, 2, 3]), CLASSES)

    # Means (1, 0), (1, 5), (1, -20); scatter 1, 1, 0; squared distances 25, 400, 625.
    assert result["count"] == 5
    assert result["within"] == pytest.approx(2 / 3)
    assert result["between"] == pytest.approx(350)
    assert result["ratio"] == pytest.approx(2 / 3 / 350)
    cat, dog, bird = (result["by_class"][name] for name in CLASSES)
    assert (cat["count"], dog["count"], bird["count"]) == (2, 2, 1)
    assert (cat["nearest"], dog["nearest"], bird["nearest"]) == ("dog", "cat", "cat")
    assert (cat["distance"], dog["distance"], bird["distance"]) == (5, 5, 20)
    assert (cat["within"], bird["within"]) == (1, 0)
    assert (cat["ratio"], bird["ratio"]) == (pytest.approx(1 / 25), 0)


def test_equals_a_naive_loop():
    features, labels = blobs()
    result = compactness(features, labels, CLASSES)

    within, means = [], []
    for label in (1, 2, 3):
        rows = [x for x, y in zip(features, labels, strict=True) if y == label]
        means.append(sum(rows) / len(rows))
        within.append(sum(sum((x - means[-1]) ** 2) for x in rows) / len(rows))
    pairs = [sum((means[a] - means[b]) ** 2) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert result["within"] == pytest.approx(sum(within) / 3)
    assert result["between"] == pytest.approx(sum(pairs) / 3)
    for k, name in enumerate(CLASSES):
        squares = {sum((means[k] - means[j]) ** 2): CLASSES[j] for j in range(3) if j != k}
        row = result["by_class"][name]
        assert row["within"] == pytest.approx(within[k])
        assert row["nearest"] == squares[min(squares)]
        assert row["distance"] == pytest.approx(min(squares) ** 0.5)
        assert row["ratio"] == pytest.approx(within[k] / min(squares))


def test_silhouette_is_that_of_scikit_learn():
    features, labels = blobs()
    result = compactness(features, labels, CLASSES)
    each = silhouette_samples(features, labels)
    assert result["silhouette"] == pytest.approx(silhouette_score(features, labels))
    for label, name in enumerate(CLASSES, start=1):
        assert result["by_class"][name]["silhouette"] == pytest.approx(each[labels == label].mean())


def test_silhouette_of_a_part_comes_close_to_that_of_all():
    features, labels = blobs(counts=(600, 300, 4))
    whole = compactness(features, labels, CLASSES)
    part = compactness(features, labels, CLASSES, max_silhouette=200)
    assert part == compactness(features, labels, CLASSES, max_silhouette=200)
    assert part["silhouette"] != whole["silhouette"]
    assert part["silhouette"] == pytest.approx(whole["silhouette"], abs=0.05)
    assert part["by_class"]["bird"]["silhouette"] is not None
    assert part["within"] == whole["within"]


def test_a_rare_class_counts_as_much_as_a_frequent_one():
    features = np.array([[0.0], [0.0]] * 500 + [[10.0], [14.0]])
    labels = np.array([1] * 1000 + [2, 2])
    assert compactness(features, labels, CLASSES)["within"] == pytest.approx(2)  # (0 + 4) / 2


def test_rotation_and_shift_change_nothing():
    features, labels = blobs()
    moved = features @ ortho_group.rvs(5, random_state=0) + 1e7
    expected = compactness(features, labels, CLASSES)
    result = compactness(moved, labels, CLASSES)
    assert numbers(result) == pytest.approx(numbers(expected), rel=1e-6)


def test_the_ratio_has_no_scale():
    features, labels = blobs()
    small = compactness(features, labels, CLASSES)
    large = compactness(1000 * features, labels, CLASSES)
    assert large["within"] == pytest.approx(1e6 * small["within"])
    assert large["ratio"] == pytest.approx(small["ratio"])
    for name in CLASSES:
        assert large["by_class"][name]["ratio"] == pytest.approx(small["by_class"][name]["ratio"])


def test_is_exact_for_compact_features_far_from_the_origin():
    offsets = np.tile([[2.0**-10], [-(2.0**-10)]], (20, 1))
    features = np.float32(1024) + offsets.astype(np.float32)  # all exact in float32
    result = compactness(features, np.repeat([1, 2], 20), CLASSES)
    assert result["within"] == 2.0**-20


@pytest.mark.parametrize(
    ("features", "labels", "defined"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), {"count"}),
        (np.ones((1, 3)), np.array([2]), {"count", "within"}),
        (np.arange(6.0).reshape(3, 2), np.array([2, 2, 2]), {"count", "within"}),
        (np.ones((4, 3)), np.array([1, 1, 2, 2]), {"count", "within", "between", "silhouette"}),
        (np.eye(2), np.array([1, 2]), {"count", "within", "between", "ratio"}),
    ],
    ids=["no boxes", "one box", "one class", "equal features", "as many classes as boxes"],
)
def test_what_is_undefined_is_none(features, labels, defined):
    result = compactness(features, labels, CLASSES)
    assert {key for key, value in result.items() if value is not None} == defined | {"by_class"}
    absent = dict(result["by_class"]["bird"])
    assert absent.pop("count") == 0 and set(absent.values()) == {None}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert len(compactness_table(result, CLASSES).splitlines()) == 5


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros(4), np.ones(4, int), r"\[N, D\].*\[4\] and \[4\]"),
        (np.zeros((4, 2)), np.ones(3, int), r"\[4, 2\] and \[3\]"),
        (np.zeros((4, 2)), np.ones((4, 1), int), r"\[4, 2\] and \[4, 1\]"),
        (np.zeros((4, 2)), np.ones(4), "integers, not float64"),
        (np.zeros((2, 2)), np.array([0, 1]), r"1\.\.3 .*0\.\.1"),
        (np.zeros((2, 2)), np.array([1, 4]), r"1\.\.3 .*1\.\.4"),
        (np.array([[0.0], [np.nan]]), np.array([1, 2]), r"\[2, 1\] must be finite"),
    ],
)
def test_refuses(features, labels, message):
    with pytest.raises(ValueError, match=message):
        compactness(features, labels, CLASSES)


def test_a_part_keeps_proportions_and_rare_classes():
    labels = np.random.default_rng(0).permutation(np.repeat([1, 2, 3, 4], [6000, 3000, 5, 1]))
    taken = proportional_subset(labels, 300, seed=1)
    counts = np.bincount(labels[taken], minlength=5)
    assert len(np.unique(taken)) == 300 and (np.diff(taken) > 0).all()
    assert counts[1] == pytest.approx(200, abs=5) and counts[2] == pytest.approx(100, abs=5)
    assert counts[3] == 2 and counts[4] == 1
    assert (proportional_subset(labels, 300, seed=2) != taken).any()
    assert (proportional_subset(labels, 10_000, seed=1) == np.arange(9006)).all()


def test_table():
    features = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 4.0], [1.0, 6.0]])
    table = compactness_table(compactness(features, np.array([1, 1, 2, 2]), CLASSES), CLASSES)
    rows = [line.split() for line in table.splitlines()]
    assert rows[0] == ["class", "boxes", "nearest", "distance", "within", "ratio", "silhouette"]
    silhouettes = silhouette_samples(features, [1, 1, 2, 2])
    dog = f"{silhouettes[2:].mean():.3f}"
    assert rows[2] == ["dog", "2", "cat", "5.00", "1.00", "0.0400", dog]
    assert rows[3] == ["bird", "0", "–", "–", "–", "–", "–"]
    whole = f"{silhouettes.mean():.3f}"
    assert rows[4] == ["all", "4", "–", "5.00", "1.00", "0.0400", whole]
    assert len({len(line) for line in table.splitlines()}) == 1
