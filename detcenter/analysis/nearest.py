"""The nearest of many features, found by looking at all of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_ROWS = 1 << 16  # whose distances are computed at once, so that memory is bounded
_ROUNDED = 1e-12  # part of a squared length, to which scikit-learn's squared distances are exact


class Nearest(NamedTuple):
    """What is nearest to one query, the nearest first."""

    rows: np.ndarray  # int64 [K], positions
    distances: np.ndarray  # float64 [K], Euclidean


def nearest(
    rows: np.ndarray,
    queries: np.ndarray,
    most: int,
    left_out: Sequence[Sequence[int]] | None = None,
) -> list[Nearest]:
    """The rows that are nearest to each query, without approximation.

    Of rows at equal distances the one that comes first is the nearer: where features collapse, or
    boxes share a feature, the answer is still always the same.

    Args:
        rows, queries: finite, float32 [N, D] and [Q, D].
        most: K, rows for each query; fewer if there are not so many.
        left_out: of each query, positions of rows that it does not get.
    """
    from sklearn.neighbors import NearestNeighbors  # slow to import

    left_out = [()] * len(queries) if left_out is None else left_out
    if not len(rows) or not len(queries):
        return [Nearest(np.zeros(0, np.int64), np.zeros(0)) for _ in queries]
    # One more than is given back: what is not found is at least as far away as the last.
    wanted = min(len(rows), most + max(map(len, left_out)) + 1)
    search = NearestNeighbors(n_neighbors=wanted, algorithm="brute", metric="euclidean").fit(rows)
    found = search.kneighbors(queries, return_distance=False)
    return [
        _sorted(rows, *of_query, most) for of_query in zip(queries, found, left_out, strict=True)
    ]


def _sorted(
    rows: np.ndarray, query: np.ndarray, near: np.ndarray, left_out: Sequence[int], most: int
) -> Nearest:
    distances = _distances(rows[near], query)
    if len(near) < len(rows) and _tied(distances[~np.isin(near, left_out)], query, most):
        near, distances = np.arange(len(rows)), _distances(rows, query)  # who else is as far away
    kept = ~np.isin(near, left_out)
    near, distances = near[kept], distances[kept]
    order = np.lexsort((near, distances))[:most]
    return Nearest(near[order], distances[order])


def _tied(distances: np.ndarray, query: np.ndarray, most: int) -> bool:
    """Whether the last that is wanted may be as far away as one that was not found."""
    squares = np.sort(distances) ** 2
    rounded = _ROUNDED * (float(np.square(query, dtype=np.float64).sum()) + squares[-1])
    return bool(squares[-1] - squares[most - 1] <= rounded)


def _distances(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """[N], of equal rows equal to the bit."""
    blocks = [
        np.linalg.norm(rows[start : start + _ROWS].astype(np.float64) - query, axis=1)
        for start in range(0, len(rows), _ROWS)
    ]
    return np.concatenate(blocks)
