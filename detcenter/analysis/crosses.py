"""Named crosses in a panel, where no name covers another."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pair = tuple[float, float]
Rectangle = tuple[float, float, float, float]  # x1, y1, x2, y2 in points

_INK, _PAPER = "#1e1e1e", "white"
_GAP, _STEP, _FARTHEST = 1.0, 6.0, 32.0  # points between a name and its cross: least, more, most
# Names above a cross are the easiest to assign to it, and names at its corners the hardest.
_DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8))


def draw_crosses(axes: "Axes", at: np.ndarray, names: Sequence[str], size: float) -> None:
    """Black crosses at [K, 2] in the panel's units, with their K names in a font of `size`.

    A name stands next to its cross, or further away at the end of a thin line; one that finds no
    free place is left out. The layout of the figure has to be final.
    """
    if at.shape != (len(names), 2):
        raise ValueError(f"takes centers [K, 2] and K names, not {list(at.shape)} and {len(names)}")
    arm = 0.8 * size  # of a cross, from end to end
    for colour, width in ((_PAPER, 4.0), (_INK, 1.6)):
        axes.plot(*at.T, "x", color=colour, markersize=arm, markeredgewidth=width, zorder=4)
    places = _places(axes, at, names, size, arm)
    for (x, y), name, place in zip(at, names, places, strict=True):
        if place is not None:
            _draw_line(axes, (x, y), place, arm)
            _write(axes, (x, y), name, place, size)


def _draw_line(axes: "Axes", cross: Pair, place: Rectangle, arm: float) -> None:
    """From a cross to the edge of its name, under all names, where the two are apart."""
    x, y = np.clip(0, place[0], place[2]), np.clip(0, place[1], place[3])
    if np.hypot(x, y) > arm:
        line = {"arrowstyle": "-", "linewidth": 0.7, "color": _INK, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            "", cross, (x, y), textcoords="offset points", arrowprops=line, zorder=3
        ).set_in_layout(False)


def _write(axes: "Axes", cross: Pair, name: str, place: Rectangle, size: float) -> None:
    from matplotlib.patheffects import withStroke

    text = axes.annotate(
        name,
        cross,
        ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=size,
        color=_INK,
        parse_math=False,  # a class may be called "US$"
        path_effects=[withStroke(linewidth=2.5, foreground=_PAPER)],
        zorder=5,
    )
    text.set_in_layout(False)  # which would change again


def _places(
    axes: "Axes", at: np.ndarray, names: Sequence[str], size: float, arm: float
) -> Iterator[Rectangle | None]:
    """Of each name, seen from its cross; the first names choose first."""
    figure: Any = axes.get_figure()
    points = 72 / figure.dpi  # a pixel
    crosses = axes.transData.transform(at) * points
    frame = tuple(axes.get_window_extent().extents * points)
    taken = [_moved((-arm / 2, -arm / 2, arm / 2, arm / 2), cross) for cross in crosses]
    for cross, name in zip(crosses, names, strict=True):
        for place in _candidates(*_extent(figure, name, size), arm):
            moved = _moved(place, cross)
            if _contains(frame, moved) and not any(_meet(moved, other) for other in taken):
                taken.append(moved)
                yield place
                break
        else:
            yield None


def _extent(figure: Any, name: str, size: float) -> Pair:
    """Width and height in points, with room for the halo at both ends."""
    from matplotlib.text import Text

    text = Text(text=name, fontsize=size, parse_math=False, figure=figure)
    extent = text.get_window_extent(figure.canvas.get_renderer())
    return extent.width * 72 / figure.dpi + 2, extent.height * 72 / figure.dpi


def _candidates(width: float, height: float, arm: float) -> Iterator[Rectangle]:
    """Where a name may be, seen from its cross: nearest first."""
    for away in arm / 2 + np.arange(_GAP, _FARTHEST, _STEP):
        for right, up in _DIRECTIONS:
            x, y = right * (width / 2 + away), up * (height / 2 + away)
            yield x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _moved(place: Rectangle, by: np.ndarray) -> Rectangle:
    return place[0] + by[0], place[1] + by[1], place[2] + by[0], place[3] + by[1]


def _meet(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _contains(a: Rectangle, b: Rectangle) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and b[2] <= a[2] and b[3] <= a[3]
