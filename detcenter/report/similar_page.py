"""Boxes, each with those that are most like it, as a page of pictures."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.report.crops import Cut, cut_out
from detcenter.report.rendering import rendered_still

_AROUND = 1.3  # side of a picture by the longer side of its box
_LARGE, _SMALL = 160, 112  # pixels of a query's picture, and of a neighbour's


class Shown(NamedTuple):
    """A box with its picture, and what is said of it."""

    image: Hashable  # which names the image for who reads it
    box: tuple[float, ...]  # xyxy in pixels
    label: str  # of its class, or "" if none is known
    file: str  # the name of its image for people
    lines: Sequence[str]  # what else there is to say
    marked: bool = False  # of the query's own image, or of a copy


def similar_page(
    title: str,
    about: str,
    rows: Sequence[tuple[Shown, Sequence[Shown]]],
    image: Callable[[Any], np.ndarray],
    progress: Callable[[list[Hashable]], Iterable[Hashable]] = iter,
) -> str:
    """HTML that opens without network: a row for every query, its neighbours in their order.

    It needs Jinja2.

    Args:
        about: a sentence on what was searched.
        rows: each query and its neighbours.
        image: from the ``image`` of a box to pixels, uint8 [H, W, 3].
        progress: gets the images that are shown, and gives them on one by one.
    """
    wanted: dict[Hashable, list[Cut]] = {}
    for query, neighbours in rows:
        wanted.setdefault(query.image, []).append(_cut(query, _LARGE))
        for neighbour in neighbours:
            wanted.setdefault(neighbour.image, []).append(_cut(neighbour, _SMALL))
    pictures = cut_out(wanted, image, progress)

    def for_the_page(shown: Shown, side: int) -> dict[str, Any]:
        return shown._asdict() | {"picture": pictures.get((shown.image, _cut(shown, side)))}

    shown = [
        {
            "query": for_the_page(query, _LARGE),
            "neighbours": [for_the_page(neighbour, _SMALL) for neighbour in neighbours],
            "classes": Counter(neighbour.label for neighbour in neighbours).most_common(),
        }
        for query, neighbours in rows
    ]
    return rendered_still("similar", title=title, about=about, rows=shown)


def _cut(shown: Shown, side: int) -> Cut:
    return tuple(shown.box), side, _AROUND
