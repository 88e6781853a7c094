import warnings

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.stats import ortho_group
from threadpoolctl import threadpool_limits

from detcenter.analysis import projections


@pytest.fixture(autouse=True)
def one_thread():
    """The threads of t-SNE wait for each other actively, which is slow on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def at_most(monkeypatch):
    """Sets how many boxes t-SNE takes; it is left out for fewer than four."""
    return lambda count: monkeypatch.setitem(projections.__globals__, "_MOST_EMBEDDED", count)


def blobs(seed=0, count=60, dim=6, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, classes + 1, count)
    means = rng.normal(size=(classes, dim)) * 4
    return means[labels - 1] + rng.normal(size=(count, dim)), labels, means


def assert_same_axes(points, expected):
    """Equal but for the sign of each axis, and its zero."""
    points, expected = points - points.mean(axis=0), expected - expected.mean(axis=0)
    signs = np.sign((points * expected).sum(axis=0))
    np.testing.assert_allclose(points * signs, expected, atol=1e-8 * np.abs(expected).max())


def test_two_dimensions_are_shown_as_they_are():
    features, labels, means = blobs(dim=2)
    (name, (points, of_points, centers)), *others = projections(features, labels, 0, means).items()
    assert name == "features" and not others
    assert (points == features).all() and (of_points == labels).all() and (centers == means).all()


def test_one_dimension_lies_on_a_line():
    points, _, centers = projections([[3.0], [4.0]], [1, 2], centers=[[5.0]])["features"]
    assert points.tolist() == [[3, 0], [4, 0]] and centers.tolist() == [[5, 0]]


def test_pca_is_the_singular_value_decomposition(at_most):
    at_most(3)
    features, labels, means = blobs()
    points, _, centers = projections(features, labels, centers=means)["PCA"]
    left, values, axes = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    assert_same_axes(points, (left * values)[:, :2])
    together = (np.concatenate([features, means]) - features.mean(axis=0)) @ axes[:2].T
    assert_same_axes(np.concatenate([points, centers]), together)


def test_lda_solves_its_eigenproblem(at_most):
    at_most(3)
    features, labels, means = blobs(count=200)
    points, _, centers = projections(features, labels, centers=means)["LDA"]
    of_class = [features[labels == label] for label in np.unique(labels)]
    within = sum((x - x.mean(axis=0)).T @ (x - x.mean(axis=0)) for x in of_class)
    between = sum(
        len(x) * np.outer(*[x.mean(axis=0) - features.mean(axis=0)] * 2) for x in of_class
    )
    # With the axes' length that makes the variance within the classes 1.
    axes = eigh(between, within / len(features))[1][:, :-3:-1]
    assert_same_axes(points, features @ axes)
    assert_same_axes(np.concatenate([points, centers]), np.concatenate([features, means]) @ axes)


def test_lda_sees_what_pca_does_not(at_most):
    """Classes that differ in two faint dimensions, under three loud ones without meaning."""
    at_most(3)
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 4, 300)
    corners = np.array([[0, 0], [1, 0], [0, 1]])
    faint = corners[labels - 1] + 0.05 * rng.normal(size=(300, 2))
    features = np.hstack([faint, 50 * rng.normal(size=(300, 3))]) @ ortho_group.rvs(5, 1, 0)

    def nearest_mean_is_own(points):
        means = np.array([points[labels == label].mean(axis=0) for label in (1, 2, 3)])
        distances = ((points[:, None] - means) ** 2).sum(axis=2)
        return (distances.argmin(axis=1) + 1 == labels).mean()

    found = projections(features, labels)
    assert nearest_mean_is_own(found["LDA"].points) == 1
    assert nearest_mean_is_own(found["PCA"].points) < 0.6


def test_tsne_keeps_neighbours_and_has_no_centers():
    features, labels, means = blobs(dim=20)
    points, of_points, centers = projections(features, labels, centers=means)["t-SNE"]
    distances = ((points[:, None] - points) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert (of_points == labels).all() and centers is None


def test_tsne_of_many_boxes_takes_a_part_with_its_labels(at_most):
    at_most(40)
    features, labels, _ = blobs(count=120, dim=20, classes=3)
    found = projections(features, labels)
    points, of_points, _ = found["t-SNE"]
    assert points.shape == (40, 2) and of_points.shape == (40,)
    assert len(found["PCA"].points) == len(found["LDA"].points) == 120
    distances = ((points[:, None] - points) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (of_points[distances.argmin(axis=1)] == of_points).mean() > 0.9


def test_equal_seeds_give_equal_points(at_most):
    at_most(30)
    features, labels, _ = blobs()
    first, again, other = (projections(features, labels, seed) for seed in (1, 1, 2))
    assert list(first) == ["PCA", "LDA", "t-SNE"]
    for name in first:
        assert (first[name].points == again[name].points).all()
    assert (first["t-SNE"].points != other["t-SNE"].points).any()


RANDOM = np.random.default_rng(0).normal(size=(30, 5))
MEANS = 0.1 + np.eye(5)


@pytest.mark.parametrize(
    ("features", "labels", "names"),
    [
        (RANDOM[:1], [1], {"PCA"}),
        (RANDOM[:2], [1, 2], {"PCA"}),
        (RANDOM[:3], [1, 2, 3], {"PCA"}),
        (RANDOM[:4], [1, 2, 3, 1], {"PCA", "t-SNE"}),  # LDA: one class with any scatter
        (RANDOM[:9], [1, 2, 3] * 3, {"PCA", "LDA", "t-SNE"}),
        (RANDOM, [1, 2] * 15, {"PCA", "t-SNE"}),  # LDA: two classes
        (RANDOM, range(1, 31), {"PCA", "t-SNE"}),  # LDA: as many classes as boxes
        (np.full((9, 5), 0.1), [1, 2, 3] * 3, {"PCA"}),
        (MEANS[[0, 1, 2] * 3], [1, 2, 3] * 3, {"PCA", "t-SNE"}),  # LDA: no scatter
        (np.vstack([np.eye(3), -np.eye(3)]), [1, 2, 3] * 2, {"PCA", "t-SNE"}),  # LDA: equal means
        (RANDOM[:, :1] * np.ones(5), [1, 2, 3] * 10, {"PCA", "t-SNE"}),  # LDA: all on a line
        (RANDOM * 1e-30, [1, 2, 3] * 10, {"PCA", "LDA", "t-SNE"}),
        (RANDOM * 1e30, [1, 2, 3] * 10, {"PCA", "LDA", "t-SNE"}),
    ],
)
def test_degenerate_features_give_points_without_a_warning(features, labels, names):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = projections(features, np.array(labels), centers=features[:1])
    assert set(found) == names
    for name, (points, of_points, centers) in found.items():
        assert points.shape == (len(features), 2) and np.isfinite(points).all()
        assert (of_points == labels).all()
        assert name == "t-SNE" or (centers.shape == (1, 2) and np.isfinite(centers).all())


@pytest.mark.parametrize(
    ("features", "labels", "centers", "message"),
    [
        (np.zeros((0, 5)), np.zeros(0, int), None, "no boxes"),
        (np.zeros((2, 5)), np.ones(3, int), None, r"\[2, 5\] and \[3\]"),
        (np.zeros((2, 5)), np.ones(2, int), np.zeros((3, 4)), r"\[K, 5\].*\[3, 4\]"),
        (np.zeros((2, 5)), np.ones(2, int), np.full((1, 5), np.inf), r"\[1, 5\] must be finite"),
        (np.full((2, 5), np.nan), np.ones(2, int), None, "must be finite"),
    ],
)
def test_refuses(features, labels, centers, message):
    with pytest.raises(ValueError, match=message):
        projections(features, labels, centers=centers)
