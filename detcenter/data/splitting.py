"""Images held out for evaluation, or parted into folds; copies of one image stay together."""

import hashlib
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

Member = TypeVar("Member", bound=Hashable)


def held_out(
    paths: Sequence[Path],
    root: Path,
    fraction: float,
    seed: int = 0,
    groups: Iterable[Iterable[Path]] = (),
) -> set[int]:
    """Positions of about this fraction of the images; copies of one image are never parted.

    Copies are files of the same bytes, and those that Roboflow made of one image: their names
    agree up to ".rf.". Images of one of the ``groups`` are not parted either.

    The images are drawn by a hash of the seed and of their names below `root`: the same images
    everywhere, and few others when some are added.

    Raises:
        ValueError: fewer than two images that are no copies of one another.
    """
    names = [name_below(path, root) for path in paths]
    together = [[name_below(path, root) for path in group] for group in groups]
    drawn = {
        min(names[position] for position in group): group
        for group in groups_of_copies(names, contents(paths), together)
    }
    if len(drawn) < 2:
        raise ValueError(f"{len(paths)} images, all copies of one, cannot be parted")
    wanted = max(1, round(fraction * len(paths)))
    chosen: set[int] = set()
    in_order = sorted(drawn, key=lambda name: hashlib.blake2b(f"{seed} {name}".encode()).digest())
    for name in in_order[:-1]:
        if len(chosen) >= wanted:
            break
        chosen.update(drawn[name])
    return chosen


def folds_of(
    names: Sequence[str],
    contents: Sequence[str],
    folds: int,
    groups: Iterable[Iterable[str]] = (),
) -> np.ndarray:
    """Which of ``folds`` parts of about equal size each image is in, int64 [N] from 0.

    Always the same for the same number of images, but that copies join the one of them that is
    drawn first; see `groups_of_copies` for names, contents and groups.

    Raises:
        ValueError: if a part would be empty, since too many images are copies.
    """
    order = np.random.default_rng(0).permutation(len(names))
    fold = np.empty(len(names), np.int64)
    for number, part in enumerate(np.array_split(order, folds)):
        fold[part] = number
    drawn = np.argsort(order)
    together = groups_of_copies(names, contents, groups)
    for group in together:
        fold[group] = fold[min(group, key=lambda position: drawn[position])]
    if len(np.unique(fold)) < folds:
        raise ValueError(f"of {len(names)} images only {len(together)} are no copies of others")
    return fold


def groups_of_copies(
    names: Sequence[str], contents: Sequence[str], groups: Iterable[Iterable[str]] = ()
) -> list[list[int]]:
    """Positions of images, those of copies together: of one content, or of one name up to ".rf.".

    Roboflow names so what it made of one image. Names of one of the ``groups`` are together too;
    those that no image has say nothing.
    """
    of_roboflow = [re.sub(r"\.rf\..*", "", name) for name in names]
    position = {name: n for n, name in enumerate(names)}
    # Every image is joined with its name and its content; who shares one is in one piece.
    keys: list[tuple[int, Hashable]] = [(n, ("name", x)) for n, x in enumerate(of_roboflow)]
    keys += [(n, ("content", x)) for n, x in enumerate(contents)]
    keys += [
        (position[name], ("group", number))
        for number, group in enumerate(groups)
        for name in group
        if name in position
    ]
    return _pieces(len(names), keys)


def joined_groups(pairs: Iterable[tuple[Member, Member]]) -> list[list[Member]]:
    """Groups of all that is joined by pairs, in the order in which it comes."""
    listed = list(pairs)
    members = list(dict.fromkeys(member for pair in listed for member in pair))
    position = {member: n for n, member in enumerate(members)}
    keys = [(position[member], n) for n, pair in enumerate(listed) for member in pair]
    return [[members[n] for n in group] for group in _pieces(len(members), keys)]


def _pieces(count: int, keys: Sequence[tuple[int, Hashable]]) -> list[list[int]]:
    """Of ``count`` things those together that share a key, directly or by others."""
    number_of: dict[Hashable, int] = {}
    rows = np.array([thing for thing, _ in keys], np.int64)
    columns = np.array([number_of.setdefault(key, len(number_of)) for _, key in keys], np.int64)
    size = count + len(number_of)
    joined = coo_array((np.ones(len(rows)), (rows, columns + count)), shape=(size, size))
    piece_of = connected_components(joined, directed=False)[1][:count]
    pieces: dict[int, list[int]] = {}
    for thing, piece in enumerate(piece_of.tolist()):
        pieces.setdefault(piece, []).append(thing)
    return list(pieces.values())


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
