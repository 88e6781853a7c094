"""Images held out for evaluation, or parted into folds; copies of one image stay together."""

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
    groups = {
        min(name_below(paths[position], root) for position in group): group
        for group in groups_of_copies([name_below(path, root) for path in paths], contents(paths))
    }
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


def folds_of(names: Sequence[str], contents: Sequence[str], folds: int) -> np.ndarray:
    """Which of ``folds`` parts of about equal size each image is in, int64 [N] from 0.

    Always the same for the same number of images, but that copies join the one of them that is
    drawn first; see `groups_of_copies` for names and contents.

    Raises:
        ValueError: if a part would be empty, since too many images are copies.
    """
    order = np.random.default_rng(0).permutation(len(names))
    fold = np.empty(len(names), np.int64)
    for number, part in enumerate(np.array_split(order, folds)):
        fold[part] = number
    drawn = np.argsort(order)
    groups = groups_of_copies(names, contents)
    for group in groups:
        fold[group] = fold[min(group, key=lambda position: drawn[position])]
    if len(np.unique(fold)) < folds:
        raise ValueError(f"of {len(names)} images only {len(groups)} are no copies of others")
    return fold


def groups_of_copies(names: Sequence[str], contents: Sequence[str]) -> list[list[int]]:
    """Positions of images, those of copies together: of one content, or of one name up to ".rf.".

    Roboflow names so what it made of one image.
    """
    of_roboflow = [re.sub(r"\.rf\..*", "", name) for name in names]
    # Every image is joined with its name and its content; who shares one is in one piece.
    keys = [f"name {name}" for name in of_roboflow] + [f"content {c}" for c in contents]
    kinds, key_of = np.unique(keys, return_inverse=True)
    rows, size = np.tile(np.arange(len(names)), 2), len(names) + len(kinds)
    joined = coo_array((np.ones(len(keys)), (rows, key_of + len(names))), shape=(size, size))
    group_of = connected_components(joined, directed=False)[1][: len(names)]
    groups: dict[int, list[int]] = {}
    for position, group in enumerate(group_of.tolist()):
        groups.setdefault(group, []).append(position)
    return list(groups.values())


def name_below(path: Path, root: Path) -> str:
    """The name of a file below a folder, or its whole path where it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def contents(paths: Sequence[Path]) -> list[str]:
    """What tells apart the contents of files; only those of equal size are read."""
    sizes = [path.stat().st_size for path in paths]
    as_large = Counter(sizes)
    return [
        str(position) if as_large[size] == 1 else _digest(path)
        for position, (path, size) in enumerate(zip(paths, sizes, strict=True))
    ]


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest()
