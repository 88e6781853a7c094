"""What it takes to find the nearest of up to a million boxes, by several packages, exactly.

    python benchmarks/similar.py [--boxes 10000 100000 1000000] [--queries 1 100] [--json FILE]

Made-up features of 128 dimensions on the unit sphere; every query is a row with a little noise, and
gets its ten nearest. All packages look at every row. "detcenter" is `detcenter.analysis.nearest`:
scikit-learn's search, and a fixed order of rows that are equally far away. The bytes are those that
the search takes beside the features, at its most, as the operating system counts them; each package
is measured in a process of its own. faiss is an optional rival (pip install faiss-cpu).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import heading, written

from detcenter.analysis import nearest

_DIMENSIONS, _MOST = 128, 10
_BLOCK = 1 << 16  # rows that torch compares at once
_Search = Callable[[np.ndarray], np.ndarray]  # queries [Q, D] to positions [Q, K]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--boxes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)  # a package, and the boxes
    arguments = parser.parse_args()
    if arguments.only:
        package, boxes = arguments.only
        print(json.dumps(_measured(package, int(boxes), arguments.queries, arguments.repeats)))
        return
    print(heading())
    columns = "".join(f"{f'{n} queries' if n > 1 else '1 query':>14}" for n in arguments.queries)
    print(f"{'boxes':>9}  {'by':20}{columns}{'memory':>12}{'as detcenter':>14}")
    rows: list[dict[str, Any]] = []
    for boxes in arguments.boxes:
        for package in _packages():
            rows.append(_in_a_process(package, boxes, arguments))
            print(_line(rows[-1]), flush=True)
            written(arguments.json, rows)


def _packages() -> dict[str, Callable[[np.ndarray], _Search]]:
    """What makes a search of rows, by name; those that are installed."""
    every = {
        "detcenter": _detcenter,
        "scikit-learn": _sklearn,
        "torch": _torch,
        "faiss": _faiss,
    }
    return {name: of for name, of in every.items() if name != "faiss" or find_spec("faiss")}


def _in_a_process(package: str, boxes: int, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", package, str(boxes)]
    command += ["--repeats", str(arguments.repeats), "--queries", *map(str, arguments.queries)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def _measured(package: str, boxes: int, counts: list[int], repeats: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = _unit(rng.standard_normal((boxes, _DIMENSIONS), dtype=np.float32))
    noise = rng.standard_normal((max(counts), _DIMENSIONS), dtype=np.float32)
    queries = _unit(rows[rng.integers(0, boxes, max(counts))] + 0.05 * noise)
    nearest(rows[:1000], queries[:1], 1)  # so that scikit-learn is there for all
    before = _peak()
    search = _packages()[package](rows)
    search(queries[:1])  # what is imported, and what starts threads
    seconds = [_median(partial(search, queries[:n]), repeats) for n in counts]
    memory = _peak() - before
    expected = np.stack([found.rows for found in nearest(rows, queries, _MOST)])
    same = float((search(queries) == expected).mean())
    return {
        "by": package,
        "boxes": boxes,
        "queries": counts,
        "seconds": seconds,
        "bytes": memory,
        "same": same,
    }


def _detcenter(rows: np.ndarray) -> _Search:
    return lambda queries: np.stack([found.rows for found in nearest(rows, queries, _MOST)])


def _sklearn(rows: np.ndarray) -> _Search:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=_MOST, algorithm="brute", metric="euclidean").fit(rows)
    return lambda queries: np.asarray(search.kneighbors(queries, return_distance=False))


def _torch(rows: np.ndarray) -> _Search:
    """In float32, which on the unit sphere does for cosines, and not for other distances."""
    return lambda queries: _by_blocks(torch.from_numpy(rows), torch.from_numpy(queries))


def _by_blocks(rows: torch.Tensor, queries: torch.Tensor) -> np.ndarray:
    values, places = [], []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        value, place = (queries @ block.T).topk(min(_MOST, len(block)), 1)
        values.append(value)
        places.append(place + start)
    best = torch.cat(values, 1).topk(_MOST, 1).indices
    return torch.cat(places, 1).gather(1, best).numpy()


def _faiss(rows: np.ndarray) -> _Search:
    import faiss  # type: ignore[import-not-found]

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)  # which copies them
    return lambda queries: np.asarray(index.search(queries, _MOST)[1])


def _median(search: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        search()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _peak() -> int:
    """Bytes of this process at its most (Linux counts kilobytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _unit(rows: np.ndarray) -> np.ndarray:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    seconds = "".join(f"{1000 * value:11.1f} ms" for value in row["seconds"])
    return (
        f"{row['boxes']:9,}  {row['by']:20}{seconds}{row['bytes'] / 2**20:8.0f} MiB"
        f"{row['same']:13.1%}"
    )


if __name__ == "__main__":
    main()
