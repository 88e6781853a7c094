"""Compactness: the scatter within the classes, against the distance between them."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from detcenter.evaluation.table import aligned


def compactness(
    features: np.ndarray, labels: np.ndarray, classes: Sequence[str], max_silhouette: int = 2000
) -> dict[str, Any]:
    r"""How tightly features gather around the mean of their class, as plain JSON values.

    For the n_c features :math:`x_i` of class c, their mean :math:`m_c`, and C classes with boxes::

        within_c  w_c = 1/n_c * sum_{i: y_i = c} |x_i - m_c|^2
        within    W = 1/C * sum_c w_c
        between   B = 2/(C (C - 1)) * sum_{c < d} |m_c - m_d|^2
        ratio     W / B, and of a class w_c / |m_c - m_d|^2 with m_d the mean nearest to m_c

    W and B are means over classes, not boxes, so that a frequent class does not hide a rare one.
    A small ratio is compact; it changes with neither rotation, shift nor scale of the features.

    Args:
        features: [N, D] of any real dtype; computed in float64.
        labels: [N], integers in 1..len(classes); label k is named `classes[k - 1]`.
        max_silhouette: how many boxes the silhouette is taken of, because it costs their square:
            where there are more, a seeded random choice with each class in its proportion.

    Returns `count`, `within`, `between`, `ratio`, `silhouette`, and `by_class`, which maps each
    name to `count`, `within`, `nearest` (the name of the class with the nearest mean), `distance`
    (Euclidean, to that mean), `ratio` and `silhouette`. The silhouette is scikit-learn's, in
    [-1, 1], and 0 for a box alone in its class; of a class it is the mean of its boxes. None is
    what is undefined: all of a class without boxes, distances with fewer than two classes, a
    ratio over a distance of 0, a silhouette with fewer than two classes or as many as boxes.

    Raises:
        ValueError: for other shapes, labels out of range, and features that are not finite.

    Example:
        >>> features = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 4.0], [1.0, 6.0]])
        >>> result = compactness(features, np.array([1, 1, 2, 2]), ["cat", "dog"])
        >>> result["within"], result["between"], result["ratio"]
        (1.0, 25.0, 0.04)
    """
    features, labels = checked(features, labels, len(classes))
    rows = {label: features[labels == label] for label in range(1, len(classes) + 1)}
    means = {label: x.mean(axis=0) for label, x in rows.items() if len(x)}
    within = {label: _mean(_squares(rows[label] - mean)) for label, mean in means.items()}
    between = _mean([_squares(a - b) for a, b in combinations(means.values(), 2)])
    silhouettes = _silhouettes(features, labels, max_silhouette)
    by_class = {}
    for label, name in enumerate(classes, start=1):
        nearest, distance = _nearest(label, means)
        by_class[name] = {
            "count": len(rows[label]),
            "within": within.get(label),
            "nearest": None if nearest is None else classes[nearest - 1],
            "distance": distance,
            "ratio": _ratio(within.get(label), None if distance is None else distance**2),
            "silhouette": _mean(silhouettes[labels == label]),
        }
    whole = _mean(list(within.values()))
    return {
        "count": len(labels),
        "within": whole,
        "between": between,
        "ratio": _ratio(whole, between),
        "silhouette": _mean(silhouettes),
        "by_class": by_class,
    }


def compactness_table(result: Mapping[str, Any], classes: Sequence[str]) -> str:
    """What `compactness` returns as aligned text: a row a class, and a last row of the whole.

    The distance of the whole is the root of `between`, so that in every row the ratio is within
    over distance squared. None is shown as "–".
    """
    header = ("class", "boxes", "nearest", "distance", "within", "ratio", "silhouette")
    between = result["between"]
    whole = {**result, "nearest": None, "distance": None if between is None else between**0.5}
    named = [(name, result["by_class"][name]) for name in classes] + [("all", whole)]
    return aligned([header, *((name, *_cells(row)) for name, row in named)])


def checked(
    features: np.ndarray, labels: np.ndarray, num_classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finite float64 features [N, D] and integer labels [N] in 1..num_classes, or a ValueError."""
    features, labels = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if features.ndim != 2 or features.shape[1] == 0 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"takes features [N, D] and labels [N], not {list(features.shape)} and "
            f"{list(labels.shape)}"
        )
    if not np.isfinite(features).all():
        raise ValueError(f"features {list(features.shape)} must be finite, found nan or inf")
    if labels.size and labels.dtype.kind not in "iu":
        raise ValueError(f"labels {list(labels.shape)} must be integers, not {labels.dtype}")
    low, high = labels.min(initial=1), labels.max(initial=1)
    if low < 1 or (num_classes is not None and high > num_classes and labels.size):
        ends = "from 1" if num_classes is None else f"in 1..{num_classes}"
        raise ValueError(f"labels must lie {ends} (0 is background), found {low}..{high}")
    return features, labels.astype(np.int64)


def proportional_subset(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Indices of at most `size` of the labels [N], ascending: each class in its proportion.

    As far as `size` allows, a class keeps two of its boxes, however rare it is.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels))  # of a box in its class, in 0..1
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        place[mine] = np.maximum(0, np.arange(len(mine)) - 1) / len(mine)
    return np.sort(order[np.argsort(place[order], kind="stable")[:size]])


def _silhouettes(features: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """[N], nan for the boxes that were not among the `most` or where it is undefined."""
    from sklearn.metrics import silhouette_samples  # slow to import, and needed only here

    silhouettes = np.full(len(labels), np.nan)
    taken = proportional_subset(labels, most, seed=0)
    if 2 <= len(np.unique(labels[taken])) < len(taken):
        # scikit-learn does expand |x - y|^2, which is exact enough around the origin only.
        near_origin = features[taken] - features[taken].mean(axis=0)
        silhouettes[taken] = silhouette_samples(near_origin, labels[taken])
    return silhouettes


def _nearest(label: int, means: Mapping[int, np.ndarray]) -> tuple[int | None, float | None]:
    """The label whose mean is nearest to that of `label`, and how far it is."""
    others = [other for other in means if other != label]
    if label not in means or not others:
        return None, None
    distances = [float(np.linalg.norm(means[other] - means[label])) for other in others]
    return others[int(np.argmin(distances))], min(distances)


def _squares(differences: np.ndarray) -> np.ndarray:
    # Never |x|^2 - 2xc + |c|^2: the expansion cancels where features are compact.
    return (differences**2).sum(axis=-1)


def _mean(values: Any) -> float | None:
    """Of what is not nan; None where nothing is left."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = [_number(row[key]) for key in ("distance", "within", "ratio")]
    silhouette = "–" if row["silhouette"] is None else f"{row['silhouette']:.3f}"
    return (str(row["count"]), row["nearest"] or "–", *numbers, silhouette)


def _number(value: float | None) -> str:
    # Features have any scale: digits that count, not decimals.
    return "–" if value is None else f"{value:#.3g}".rstrip(".")
