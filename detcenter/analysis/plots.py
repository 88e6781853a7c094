"""Pictures of features in two dimensions. They need matplotlib, which is imported when drawing."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from detcenter.analysis.compactness import checked
from detcenter.analysis.crosses import draw_crosses
from detcenter.analysis.projections import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

Place = Literal["outside right center", "outside lower center"]

# Ten colours that stay apart for colour-blind eyes too (Petroff, "Accessible Color Sequences for
# Data Visualization", 2021), and a shape for each ten classes.
COLOURS = (
    "#3f90da",  # blue
    "#ffa90e",  # yellow
    "#bd1f01",  # red
    "#94a4a2",  # grey
    "#832db6",  # violet
    "#a96b59",  # brown
    "#e76300",  # orange
    "#b9ac70",  # tan
    "#717581",  # slate
    "#92dadd",  # cyan
)
_SHAPES = "o^sPDv*<h>"
INK, GREY = "#1e1e1e", "#6a6a6a"
LONGEST_NAME = 24  # characters


def colour(number: int) -> str:
    """Of a class, or of a run, from 0."""
    return COLOURS[number % len(COLOURS)]


class SweepCell(NamedTuple):
    """One weight of a sweep: features of two dimensions, their centers, and what it gave."""

    weight: float
    train: tuple[np.ndarray, np.ndarray]  # features [N, 2], labels [N]
    val: tuple[np.ndarray, np.ndarray]  # features [M, 2], labels [M]
    centers: np.ndarray | None  # [K, 2]
    center_labels: Sequence[int] | np.ndarray  # [K]
    ap: float | None  # in [0, 1]
    ratio: float | None  # as `compactness` gives it


def scatter(
    panels: Mapping[str, Projection], classes: Sequence[str], title: str | None = None
) -> "Figure":
    """A row of panels, one a projection, with a colour a class and its center as a named cross.

    `panels` is what `projections` returns; label k is named `classes[k - 1]`. A panel shows the
    range of 99 % of its boxes, and all its centers. A name that finds no free place near its
    cross is left out.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are no panels, or their shapes are wrong.
    """
    if not panels:
        raise ValueError("there are no panels to draw")
    side = 4.6  # inches
    figure = new_figure()
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, panel) in zip(row, panels.items(), strict=True):
        axes.set_title(name, fontsize=12)
        _draw_boxes(axes, panel.points, panel.labels, len(classes), side)
        _set_range(axes, panel.points, panel.centers, own_dimensions=name == "features")
    centers_shown = any(panel.centers is not None for panel in panels.values())
    columns = -(-(len(classes) + centers_shown) // 22)  # 22 rows are as high as a panel
    legend = _legend(figure, classes, centers_shown, "outside right center", columns)
    width = side * len(panels) + _inches(legend)[0]
    figure.set_size_inches(width, side + (0.6 if title else 0.3))
    if title:
        figure.suptitle(title, fontsize=13)
    figure.draw_without_rendering()  # the names of crosses need the final layout
    for axes, panel in zip(row, panels.values(), strict=True):
        if panel.centers is not None:
            names = [_short(name) for name in classes[: len(panel.centers)]]
            draw_crosses(axes, panel.centers, names, size=9 if len(names) <= 15 else 7)
    return figure


def sweep_figure(cells: Sequence[SweepCell], classes: Sequence[str]) -> "Figure":
    """The figure of Wen et al. (ECCV 2016): features of two dimensions, weight by weight.

    A column a cell, under its weight, AP and compactness ratio: the features of train, and below
    them those of validation with the same centers. Every panel has a range of its own, as in
    `scatter`, and one scale for both of its axes.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are no cells, or their shapes are wrong.
    """
    if not cells:
        raise ValueError("there are no cells to draw")
    side = 2.7  # inches
    figure = new_figure()
    grid = figure.subplots(2, len(cells), squeeze=False)
    for cell, column in zip(cells, grid.T, strict=True):
        column[0].set_title(_heading(cell), fontsize=10)
        for axes, (points, labels) in zip(column, (cell.train, cell.val), strict=True):
            _draw_boxes(axes, points, labels, len(classes), side)
            _set_range(axes, points, cell.centers, own_dimensions=True)
    for axes, name in zip(grid[:, 0], ("train", "validation"), strict=True):
        axes.set_ylabel(name, fontsize=11)
    centers_shown = any(cell.centers is not None for cell in cells)
    width = side * len(cells) + 0.3
    legend = _legend_below(figure, classes, centers_shown, width)
    figure.set_size_inches(width, 2 * side + 0.2 + _inches(legend)[1])
    figure.draw_without_rendering()
    for cell, column in zip(cells, grid.T, strict=True):
        if cell.centers is not None:
            centers, labels = checked(cell.centers, np.asarray(cell.center_labels), len(classes))
            names = [_short(classes[label - 1]) for label in labels]
            for axes in column:
                draw_crosses(axes, centers, names, size=7.5 if len(names) <= 15 else 6)
    return figure


def new_figure() -> "Figure":
    """A figure with a canvas of its own; pyplot would keep it, and might open a window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError(
            "drawing features needs matplotlib: pip install 'detcenter[plots]'"
        ) from error
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    figure = Figure(layout=layout, dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _heading(cell: SweepCell) -> str:
    ap, ratio = _number(cell.ap, ".2f"), _number(cell.ratio, ".2g")
    return f"λ = {cell.weight:g}\nAP {ap}, ratio {ratio}"


def _number(value: float | None, digits: str) -> str:
    return "–" if value is None or math.isnan(value) else format(value, digits)


def _draw_boxes(
    axes: "Axes", points: np.ndarray, labels: np.ndarray, num_classes: int, side: float
) -> None:
    """Points over `side` x `side` inches, shuffled so that no class lies on top of the others."""
    points, labels = checked(points, labels, num_classes)
    if points.shape[1] != 2:
        raise ValueError(f"draws points [N, 2], not {list(points.shape)}")
    if len(points) == 0:
        axes.text(0.5, 0.3, "no boxes", ha="center", color=GREY, transform=axes.transAxes)
    order = np.random.default_rng(0).permutation(len(points))
    points, (shapes, colours) = points[order], np.divmod(labels[order] - 1, len(COLOURS))
    # Enough of the panel to see colours, not so much that points merge; in square points.
    size = np.clip(0.2 * (72 * side) ** 2 / max(1, len(points)), 6, 26)
    for shape in np.unique(shapes):
        mine = shapes == shape
        axes.scatter(
            points[mine, 0],
            points[mine, 1],
            s=size,
            c=[COLOURS[colour] for colour in colours[mine]],
            marker=_SHAPES[shape % len(_SHAPES)],
            alpha=0.75,
            edgecolors="white",  # shapes are told apart by their outline
            linewidths=0.2,
            rasterized=True,  # thousands of vector points make a PDF slow
        )


def _set_range(
    axes: "Axes", points: np.ndarray, centers: np.ndarray | None, own_dimensions: bool
) -> None:
    """A square of 99 % of the points, whatever the outliers, and of all centers."""
    shown = [] if centers is None or len(centers) == 0 else [centers]
    if len(points):
        shown.append(np.percentile(points, (0.5, 99.5), axis=0))
    corners = np.concatenate(shown or [np.zeros((1, 2))])
    low, high = corners.min(axis=0), corners.max(axis=0)
    middle, span = (low + high) / 2, high - low
    if own_dimensions:
        span = np.full(2, span.max())
        axes.set_aspect("equal")
        axes.locator_params(nbins=5)
        axes.tick_params(labelsize=8, color=GREY, labelcolor=GREY)
    else:
        axes.set_box_aspect(1)
        axes.set_xticks([])
        axes.set_yticks([])
    half = 0.58 * np.where(span > 0, span, 1.0)  # with a margin for the outermost points
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.spines[:].set_color(GREY)


def _legend(
    figure: "Figure", classes: Sequence[str], centers_shown: bool, place: Place, columns: int
) -> "Legend":
    """Every class with its colour and shape, and what the crosses are."""
    from matplotlib.lines import Line2D

    looks = [(_SHAPES[k // len(COLOURS) % len(_SHAPES)], colour(k)) for k in range(len(classes))]
    names = [_short(name) for name in classes]
    if centers_shown:
        looks, names = [*looks, ("x", INK)], [*names, "center"]
    handles = [
        Line2D([], [], linestyle="none", marker=shape, color=colour) for shape, colour in looks
    ]
    legend = figure.legend(
        handles,
        names,
        loc=place,
        ncols=columns,
        fontsize=9,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.5,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a class may be called "US$"
    return legend


def _legend_below(
    figure: "Figure", classes: Sequence[str], centers_shown: bool, width: float
) -> "Legend":
    """With as many columns as are sure to fit into `width` inches."""
    one_column = _legend(figure, classes, centers_shown, "outside lower center", 1)
    columns = max(1, int(width / (_inches(one_column)[0] + 0.15)))  # and a gap after each
    one_column.remove()
    return _legend(figure, classes, centers_shown, "outside lower center", columns)


def _inches(legend: "Legend") -> tuple[float, float]:
    figure: Any = legend.get_figure()
    extent = legend.get_window_extent(figure.canvas.get_renderer())
    return extent.width / figure.dpi, extent.height / figure.dpi


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
