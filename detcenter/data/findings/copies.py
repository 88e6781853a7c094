"""The same image in two parts, or twice in one."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from detcenter.data.findings.found import MOST_EXAMPLES, Example, Finding, Part, Severity, Shown
from detcenter.data.findings.near import Candidate, near_pairs

Place = tuple[int, int]  # the number of a part, and of the image in it


def copy_findings(parts: Sequence[Part]) -> Iterator[Finding]:
    """Images that are equal byte by byte.

    One that is in training and in validation makes AP better than it is, so that is a warning.
    """
    yield from _findings("copies", "equal, byte by byte,", _equal(parts), parts)


def near_copies(
    parts: Sequence[Part], progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> list[tuple[Place, Place]]:
    """Pairs of images that are nearly equal, see `near_pairs`; of equal ones the first counts.

    Needs the package imagehash, and looks with small pictures.

    Args:
        progress: wraps the images while they are compared.
    """
    places = [*_distinct(parts)]
    images = [Candidate(p, parts[p].look(i), parts[p].annotations[i]) for p, i in places]
    return [(places[a], places[b]) for a, b in near_pairs(images, progress)]


def near_copy_findings(
    parts: Sequence[Part], pairs: Iterable[tuple[Place, Place]]
) -> Iterator[Finding]:
    """The ``pairs`` of `near_copies`."""
    yield from _findings("near_copies", "nearly equal", pairs, parts)


def _equal(parts: Sequence[Part]) -> Iterator[tuple[Place, Place]]:
    """An image and one like it, the first of its part or of a part before."""
    first: dict[bytes, dict[int, Place]] = defaultdict(dict)
    for number, part in enumerate(parts):
        for index in range(len(part.annotations)):
            if digest := part.look(index).digest:
                yield from ((place, (number, index)) for place in first[digest].values())
                first[digest].setdefault(number, (number, index))


def _distinct(parts: Sequence[Part]) -> Iterator[Place]:
    """Of images that are equal the first of each part."""
    for number, part in enumerate(parts):
        seen = {b""}
        for index in range(len(part.annotations)):
            digest = part.look(index).digest
            if digest not in seen:
                seen.add(digest)
                yield number, index


def _findings(
    kind: str, how: str, pairs: Iterable[tuple[Place, Place]], parts: Sequence[Part]
) -> Iterator[Finding]:
    """One of each part, and one of each two parts; of an image the first pair counts."""
    found: dict[tuple[int, int], dict[Place, Place]] = defaultdict(dict)
    for one, other in pairs:
        first, second = sorted([one, other])
        found[first[0], second[0]].setdefault(second, first)
    for (first_part, second_part), copies in sorted(found.items()):
        names = tuple(parts[number].name for number in sorted({first_part, second_part}))
        within = first_part == second_part
        severity: Severity = "remark" if within else "warning"
        where = "another of the same part" if within else f"one of data.{names[0]}"
        examples = [_example(parts, copies[second], second) for second in sorted(copies)]
        yield Finding(
            kind if within else f"{kind}_across",
            severity,
            f"images {how} to {where}",
            names,
            len(copies),
            tuple(examples[:MOST_EXAMPLES]),
        )


def _example(parts: Sequence[Part], *places: Place) -> Example:
    paths = [parts[number].annotations[index]["path"] for number, index in places]
    alike = paths[0].name == paths[1].name and paths[0] != paths[1]
    names = dict.fromkeys(str(path) if alike else path.name for path in paths)
    shown = tuple(Shown(parts[number].name, index) for number, index in places)
    return Example(" and ".join(names), shown)
