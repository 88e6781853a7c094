"""What class a box is of: each witness against a loop over the formula, and what they are for."""

import numpy as np
import pytest
from scipy.special import softmax

from detcenter.audit import class_opinions, mixed, wrong_label_scores


def on_sphere(rows):
    return np.array([row / np.linalg.norm(row) for row in rows])


@pytest.fixture
def case():
    draw = np.random.default_rng(0)
    seen_labels, labels = draw.integers(1, 4, 40), draw.integers(1, 4, 15)
    seen_labels[seen_labels == 3] = 2  # of class 3 nothing was seen
    seen_labels[0] = 1
    means = draw.normal(size=(4, 6))
    return {
        "logits": draw.normal(size=(15, 5)),
        "directions": on_sphere(means[labels] + 0.3 * draw.normal(size=(15, 6))),
        "labels": labels,
        "groups": np.arange(15) // 2,
        "seen_directions": on_sphere(means[seen_labels] + 0.3 * draw.normal(size=(40, 6))),
        "seen_labels": seen_labels,
    }


def test_the_classifier_speaks_of_classes_alone(case):
    opinions = class_opinions(**case)
    for row, logits in zip(opinions.classifier, case["logits"], strict=True):
        np.testing.assert_allclose(np.exp(row), softmax(logits[1:]))


def test_centers_are_as_near_as_their_class_scatters(case):
    opinions = class_opinions(**case)
    seen = [*case["seen_directions"]]
    members = {c: [seen[i] for i in np.flatnonzero(case["seen_labels"] == c)] for c in (1, 2, 3, 4)}
    centers = {c: np.mean(rows, axis=0) for c, rows in members.items() if rows}
    squares = {c: [np.sum((x - centers[c]) ** 2) for x in members[c]] for c in centers}
    of_all = np.mean([s for of_class in squares.values() for s in of_class])
    for row, feature in zip(opinions.centers, case["directions"], strict=True):
        expected = []
        for c in (1, 2, 3, 4):
            own = squares.get(c, [])
            spread = np.sqrt((sum(own) + 5 * of_all) / (len(own) + 5))
            far = np.linalg.norm(feature - centers[c]) if c in centers else 2
            expected.append(-2 * far / spread)
        np.testing.assert_allclose(np.exp(row), softmax(expected), rtol=1e-4)


def test_neighbours_are_unseen_boxes_of_other_images(case):
    opinions = class_opinions(**case)
    features = [*case["directions"]]
    for i, row in enumerate(opinions.neighbours):
        near = sorted(
            (
                (float(features[i] @ features[j]), case["labels"][j])
                for j in range(15)
                if j // 2 != i // 2  # not of its own image
            ),
            reverse=True,
        )[:10]
        shares = np.zeros(4)
        for cosine, label in near:
            shares[label - 1] += np.exp(10 * cosine)
        expected = (shares / shares.sum() + 0.01) / 1.04
        np.testing.assert_allclose(np.exp(row), expected, rtol=1e-4)


def test_the_mix_is_a_geometric_mean(case):
    opinions = class_opinions(**case)
    product = np.exp(opinions.classifier + opinions.centers + opinions.neighbours) ** (1 / 3)
    np.testing.assert_allclose(np.exp(mixed(opinions)), product / product.sum(1, keepdims=True))


def test_scores_are_of_the_likeliest_other_label():
    opinion = np.log([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    scores, better = wrong_label_scores(opinion, np.array([1, 2, 3]))
    np.testing.assert_allclose(scores, [0.3 / 0.9, 0.6 / 0.9, 0.2 / 0.8])
    assert better[:2].tolist() == [2, 1]


def test_of_a_single_class_nothing_is_wrong():
    opinions = class_opinions(
        np.zeros((3, 2)), np.eye(3), np.ones(3, int), np.arange(3), np.eye(3), np.ones(3, int)
    )
    scores, better = wrong_label_scores(mixed(opinions), np.ones(3, int))
    assert scores.tolist() == [0, 0, 0] and better.tolist() == [1, 1, 1]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_boxes(count):
    opinions = class_opinions(
        np.zeros((count, 4)),
        np.eye(3)[:count],
        np.ones(count, int),
        np.arange(count),
        np.zeros((0, 3)),
        np.zeros(0, int),
    )
    assert all(x.shape == (count, 3) and np.isfinite(x).all() for x in opinions)
    assert np.allclose(np.exp(opinions.centers), 1 / 3)  # of classes that nobody has seen
    if count == 1:
        assert np.allclose(np.exp(opinions.neighbours), 1 / 3)


def test_a_wrong_label_is_found_that_the_detector_would_believe():
    """Two classes that look alike: the classifier knows nothing, the features do."""
    draw = np.random.default_rng(1)
    true = np.repeat([1, 2], 50)
    features = np.where(true[:, None] == 1, [1.0, 0.2], [0.2, 1.0]) + 0.05 * draw.normal(
        size=(100, 2)
    )
    labels = true.copy()
    labels[[3, 60]] = 3 - labels[[3, 60]]
    opinions = class_opinions(np.zeros((100, 3)), features, labels, np.arange(100), features, true)
    scores, better = wrong_label_scores(mixed(opinions), labels)
    assert set(np.argsort(-scores)[:2].tolist()) == {3, 60}
    assert better[[3, 60]].tolist() == true[[3, 60]].tolist()


def test_copies_of_an_image_do_not_speak_for_one_another():
    """Three copies of one box under the same wrong label, far from all others of that label."""
    draw = np.random.default_rng(0)
    labels = np.array([1] * 20 + [2] * 20 + [2] * 3)
    features = np.where(labels[:, None] == 1, [1.0, 0], [0, 1.0])
    features = on_sphere(features + 0.01 * draw.normal(size=(43, 2)))
    features[40:] = [1.0, 0]
    groups = np.array([*range(40), 40, 40, 40])
    opinions = class_opinions(np.zeros((43, 3)), features, labels, groups, features, labels)
    assert (np.exp(opinions.neighbours[40:, 1]) < 0.02).all()
    apart = class_opinions(np.zeros((43, 3)), features, labels, np.arange(43), features, labels)
    assert (np.exp(apart.neighbours[40:, 1]) > 0.1).all()


def test_many_boxes_are_looked_through_in_turns(case, monkeypatch):
    whole = class_opinions(**case)
    monkeypatch.setattr("detcenter.audit.classes._ROWS", 4)
    np.testing.assert_allclose(class_opinions(**case).neighbours, whole.neighbours)


def test_a_box_without_others_has_no_neighbours():
    opinions = class_opinions(
        np.zeros((2, 3)), np.eye(2), np.array([1, 2]), np.zeros(2, int), np.eye(2), np.array([1, 2])
    )
    assert np.allclose(np.exp(opinions.neighbours), 0.5)
