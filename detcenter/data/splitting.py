"""Images held out for evaluation where a data set has no parts."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]


def held_out(paths: Sequence[Path], root: Path, fraction: float, seed: int = 0) -> set[int]:
    """Positions of about this fraction of the images; copies of one image are never parted.

    Copies are files of the same bytes, and those that Roboflow made of one image: their names
    agree up to ".rf.".

    The images are drawn by a hash of the seed and of their names below `root`: the same images
    everywhere, and few others when some are added.

    Raises:
        ValueError: fewer than two images that are no copies of one another.
    """
    groups = _groups(paths, root)
    if len(groups) < 2:
        raise ValueError(f"{len(paths)} images, all copies of one, cannot be parted")
    wanted = max(1, round(fraction * len(paths)))
    chosen: set[int] = set()
    in_order = sorted(groups, key=lambda name: hashlib.blake2b(f"{seed} {name}".encode()).digest())
    for name in in_order[:-1]:
        if len(chosen) >= wanted:
            break
        chosen.update(groups[name])
    return chosen


def _groups(paths: Sequence[Path], root: Path) -> dict[str, list[int]]:
    """Positions of copies by the first of their names."""
    names = [_name(path, root) for path in paths]
    of_roboflow = [re.sub(r"\.rf\..*", "", name) for name in names]
    # Every image is joined with its name and its content; who shares one is in one piece.
    keys = [f"name {name}" for name in of_roboflow] + [f"content {c}" for c in _contents(paths)]
    kinds, key_of = np.unique(keys, return_inverse=True)
    rows, size = np.tile(np.arange(len(paths)), 2), len(paths) + len(kinds)
    joined = coo_array((np.ones(len(keys)), (rows, key_of + len(paths))), shape=(size, size))
    group_of = connected_components(joined, directed=False)[1][: len(paths)]
    groups: dict[int, list[int]] = {}
    for position, group in enumerate(group_of.tolist()):
        groups.setdefault(group, []).append(position)
    return {min(names[position] for position in group): group for group in groups.values()}


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _contents(paths: Sequence[Path]) -> list[str]:
    """What tells apart contents; only files of equal size are read."""
    sizes = [path.stat().st_size for path in paths]
    as_large = Counter(sizes)
    return [
        str(position) if as_large[size] == 1 else _digest(path)
        for position, (path, size) in enumerate(zip(paths, sizes, strict=True))
    ]


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest()
