"""The search against a loop over all rows, with ties, and with rows that are left out."""

import numpy as np
import pytest

from detcenter.analysis import nearest


def by_a_loop(rows, query, most, left_out=()):
    pairs = [
        (
            float(
                np.sqrt(
                    sum((a - b) ** 2 for a, b in zip(row.tolist(), query.tolist(), strict=True))
                )
            ),
            k,
        )
        for k, row in enumerate(rows)
        if k not in left_out
    ]
    return sorted(pairs)[:most]


def check(rows, queries, most, left_out=None):
    found = nearest(rows, queries, most, left_out)
    for number, (positions, distances) in enumerate(found):
        expected = by_a_loop(rows, queries[number], most, left_out[number] if left_out else ())
        assert positions.tolist() == [k for _, k in expected]
        np.testing.assert_allclose(distances, [d for d, _ in expected], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("most", [1, 7, 200, 500])
def test_as_a_loop_over_all_rows(most):
    rng = np.random.default_rng(0)
    rows, queries = (rng.normal(size=(n, 5)).astype(np.float32) for n in (200, 6))
    check(rows, queries, most)
    left_out = [[], [3], [0, 1, 2], [*range(150)], [*range(200)], [199]]
    check(rows, queries, most, left_out)


@pytest.mark.parametrize("seed", range(5))
def test_of_equal_distances_the_first_row_is_the_nearer(seed):
    """Small whole numbers: many rows are equal, and others as far away."""
    rng = np.random.default_rng(seed)
    rows, queries = (rng.integers(0, 3, (n, 3)).astype(np.float32) for n in (300, 8))
    check(rows, queries, 10, [rng.choice(300, k, replace=False).tolist() for k in range(8)])


def test_collapsed_features_come_in_their_order():
    rows = np.full((5000, 64), 0.125, np.float32)
    (found,) = nearest(rows, rows[:1], 4, [[0, 2]])
    assert found.rows.tolist() == [1, 3, 4, 5] and not found.distances.any()
    (found,) = nearest(np.zeros_like(rows), rows[:1] * 0, 3)
    assert found.rows.tolist() == [0, 1, 2]


def test_far_from_the_origin_distances_are_not_rounded_away():
    rng = np.random.default_rng(0)
    rows = (1000 + rng.normal(size=(100, 8)) * 0.01).astype(np.float32)
    check(rows, rows[:5] + np.float32(0.001), 6)


def test_nothing_to_search_in_or_for():
    rows = np.ones((3, 2), np.float32)
    assert nearest(rows, rows[:0], 2) == []
    (found,) = nearest(rows[:0], rows[:1], 2)
    assert len(found.rows) == len(found.distances) == 0
