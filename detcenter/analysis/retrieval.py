"""How well features bring boxes of one class together: each box asks for others like it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from detcenter.evaluation.table import aligned

_CELLS = 1 << 24  # pairs of boxes that are ranked at once, so that memory is bounded
_FIRST = 10  # of the ranking, whose precision is taken beside that of the first
_KEYS = ("P@1", "P@10", "AP", "chance")


def retrieval(
    features: np.ndarray,
    labels: np.ndarray,
    searched: np.ndarray,
    searched_labels: np.ndarray,
    classes: Sequence[str],
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    r"""Rank all searched boxes by their distance to every query, and see where its class comes.

    Of a query whose class has :math:`R` of the N searched boxes, at the ranks
    :math:`r_1 < \ldots < r_R`:

    - ``P@1`` is 1 if the nearest box has its class, else 0,
    - ``P@10`` the share of its class among the ten nearest, or among all if N is less,
    - ``AP`` average precision without interpolation, :math:`\frac{1}{R}\sum_i i / r_i`,
    - ``chance`` is :math:`R / N`, which a random order gives of the first two on average.

    Distances are Euclidean; where they are equal in float32, the box that comes first is nearer.

    Args:
        features, labels: of the queries, float32 [Q, D] and [Q] from 1.
        searched, searched_labels: likewise, [N, D] and [N].
        classes: names, from label 1.
        progress: wraps the blocks of queries.

    Returns:
        ``by_class``, of each name ``queries``, ``boxes`` (searched), and the means of the four
        over its queries, None where there are no queries or no boxes; and ``mean``, the means of
        the four over the classes where they are known.
    """
    found = {key: np.full(len(labels), np.nan) for key in _KEYS[:3]}
    counts = np.bincount(searched_labels, minlength=len(classes) + 1)
    known = np.flatnonzero(counts[labels])
    wide = np.asarray(searched, np.float64)
    squares = (wide**2).sum(axis=1) / 2
    parts = -(-len(known) * len(wide) // _CELLS)
    for block in progress(np.array_split(known, parts) if parts else []):
        # What orders by distance; in float32 equal rows are equal, however they were multiplied.
        likeness = (features[block].astype(np.float64) @ wide.T - squares).astype(np.float32)
        order = np.argsort(-likeness, axis=1, kind="stable")
        same = searched_labels[order] == labels[block][:, None]
        precision = same.cumsum(axis=1) / np.arange(1, same.shape[1] + 1)
        found["P@1"][block] = same[:, 0]
        found["P@10"][block] = same[:, :_FIRST].mean(axis=1)
        found["AP"][block] = (precision * same).sum(axis=1) / counts[labels[block]]
    by_class = {
        name: _of_class(label, found, labels, counts) for label, name in enumerate(classes, start=1)
    }
    means = {key: _mean([row[key] for row in by_class.values()]) for key in _KEYS}
    return {"by_class": by_class, "mean": means}


def retrieval_table(result: Mapping[str, Any]) -> str:
    """What :func:`retrieval` returns, as aligned text."""
    rows = [["class", "queries", "boxes", *_KEYS]]
    for name, of_class in result["by_class"].items():
        numbers = [_cell(of_class[key]) for key in _KEYS]
        rows.append([name, str(of_class["queries"]), str(of_class["boxes"]), *numbers])
    rows.append(["mean", "", "", *(_cell(result["mean"][key]) for key in _KEYS)])
    return aligned(rows)


def _of_class(
    label: int, found: Mapping[str, np.ndarray], labels: np.ndarray, counts: np.ndarray
) -> dict[str, Any]:
    mine, boxes = labels == label, int(counts[label])
    row: dict[str, Any] = {"queries": int(mine.sum()), "boxes": boxes}
    if not row["queries"] or not boxes:
        return row | dict.fromkeys(_KEYS)
    means = {key: float(values[mine].mean()) for key, values in found.items()}
    return row | means | {"chance": boxes / int(counts.sum())}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
