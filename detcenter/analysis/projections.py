"""Features of any width in two dimensions, to be looked at."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from detcenter.analysis.compactness import checked, proportional_subset

Map = Callable[[np.ndarray], np.ndarray]  # [M, D] → [M, 2]

# t-SNE takes ten seconds or so for this many boxes, and more do not make a clearer picture.
_MOST_EMBEDDED = 3000


class Projection(NamedTuple):
    """Boxes, and centers where there are any, in the same two dimensions."""

    points: np.ndarray  # [M, 2]
    labels: np.ndarray  # [M], of the points; M < N where only a part of the boxes was taken
    centers: np.ndarray | None  # [K, 2]; row k is the center of label k + 1


def projections(
    features: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
    centers: np.ndarray | None = None,
) -> dict[str, Projection]:
    """Features as points of a plane, in up to three ways; equal seeds give equal points.

    Features of two dimensions (or of one, the other is then 0) stay as they are, under the key
    "features". Wider ones become:

    - "PCA": the two directions of the largest variance, in the features' own unit of length.
    - "LDA": the two directions that separate the classes best, measured by the scatter within
      them. It knows the labels, and with hardly more boxes than dimensions any classes would look
      separate; so it sees only as many directions of the PCA as there are tens of boxes. Left out
      where there are no two such directions, as with fewer than three classes.
    - "t-SNE": neighbours stay neighbours, but distances and densities are lost. Of at most 3000
      boxes, each class in its proportion; left out with fewer than four.

    Where all features are equal, the PCA is one point and the others are left out.

    Args:
        features: [N, D], N >= 1.
        labels: [N], integers from 1.
        seed: of t-SNE, of the choice of its boxes, and of the solver of the PCA.
        centers: [K, D], row k the center of label k + 1, or None. They go through the same linear
            map as the features; t-SNE has none, and shows no centers.

    Raises:
        ValueError: without boxes, for other shapes, and for features or centers that are not
            finite.
    """
    features, labels = checked(features, labels)
    if len(features) == 0:
        raise ValueError(f"there are no boxes to project: features {list(features.shape)}")
    if centers is not None:
        centers = _checked_centers(centers, features.shape[1])
    found = {
        name: Projection(plane(features), labels, None if centers is None else plane(centers))
        for name, plane in _linear_maps(features, labels, seed).items()
    }
    if features.shape[1] > 2:
        # Centers embedded together with the boxes would move the boxes, and would lie by their
        # neighbours instead of their distances: a picture of something else.
        taken = proportional_subset(labels, _MOST_EMBEDDED, seed)
        embedded = _tsne(features[taken], seed)
        if embedded is not None:
            found["t-SNE"] = Projection(embedded, labels[taken], None)
    return found


def _checked_centers(centers: np.ndarray, dim: int) -> np.ndarray:
    centers = np.asarray(centers, dtype=np.float64)
    if centers.ndim != 2 or centers.shape[1] != dim:
        raise ValueError(
            f"takes centers [K, {dim}] for features [N, {dim}], not {list(centers.shape)}"
        )
    if not np.isfinite(centers).all():
        raise ValueError(f"centers {list(centers.shape)} must be finite, found nan or inf")
    return centers


def _linear_maps(features: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Map]:
    if features.shape[1] <= 2:
        return {"features": _own_dimensions}
    maps = {"PCA": _pca(features, seed), "LDA": _lda(features, labels)}
    return {name: plane for name, plane in maps.items() if plane is not None}


def _own_dimensions(rows: np.ndarray) -> np.ndarray:
    return np.pad(rows, ((0, 0), (0, 2 - rows.shape[1])))


def _pca(features: np.ndarray, seed: int) -> Map:
    from sklearn.decomposition import PCA  # slow to import, here and below

    if _all_equal(features):
        return lambda rows: np.zeros((len(rows), 2))  # no direction is better than another
    plane: Map = PCA(n_components=2, random_state=seed).fit(features).transform
    return plane


def _lda(features: np.ndarray, labels: np.ndarray) -> Map | None:
    """None where scikit-learn would find fewer than two axes, or fail to."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    present, place = np.unique(labels, return_inverse=True)
    if not 3 <= len(present) < len(labels) or _all_equal(features):
        return None
    means = np.array([features[labels == label].mean(axis=0) for label in present])
    if np.abs(features - means[place]).max() <= 1e-12 * np.ptp(features, axis=0).max():
        return None  # no scatter within the classes to measure by
    most = min(*features.shape, max(len(present), len(features) // 10))
    pca = PCA(n_components=most, svd_solver="full").fit(features)
    kept = int((pca.singular_values_ > 1e-9 * pca.singular_values_[0]).sum())  # others are rounding
    if kept < 2:
        return None
    with np.errstate(invalid="ignore"):  # of equal means: a share of no variance
        lda = LinearDiscriminantAnalysis(n_components=2).fit(
            pca.transform(features)[:, :kept], labels
        )
    if lda.scalings_.shape[1] < 2:
        return None
    return lambda rows: np.asarray(lda.transform(pca.transform(rows)[:, :kept]))


def _tsne(features: np.ndarray, seed: int) -> np.ndarray | None:
    from sklearn.manifold import TSNE

    if len(features) < 4 or _all_equal(features):
        return None
    # It works in float32, where a large mean or scale would cost digits and changes nothing.
    features = features - features.mean(axis=0)
    features /= np.abs(features).max()
    perplexity = min(30.0, (len(features) - 1) / 3)  # it looks at three times as many neighbours
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(features), dtype=np.float64)


def _all_equal(features: np.ndarray) -> bool:
    return bool((features == features[0]).all())
