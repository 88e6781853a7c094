"""The forest plot of several comparisons. It needs matplotlib, which is imported when drawing."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from detcenter.analysis.plots import COLOURS, GREY, INK, new_figure
from detcenter.analysis.pooled import Mean, Pooled
from detcenter.analysis.pooled_table import POOLED, PooledPair, mean_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FAR_WIDER = 5  # than the median interval of the settings
_TALL = 0.28  # of the diamond, half its height in rows


def forest_figure(pairs: Sequence[PooledPair]) -> "Figure":
    """A row of panels for each pair, AP and AP50: every setting's interval, and their mean's.

    The diamond is as wide as the interval of the mean, and the thin line through it is the
    prediction interval of another setting. Where an interval ends in an arrow it goes on.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = new_figure()
    grid = figure.subplots(len(pairs), len(POOLED), squeeze=False)
    for pair, row in zip(pairs, grid, strict=True):
        for axes, name in zip(row, POOLED, strict=True):
            _draw(axes, pair.pooled[name])
            axes.set_title(
                f"{name}: {pair.second} minus {pair.first}", fontsize=10, parse_math=False
            )
            if axes is not row[0]:
                axes.set_yticklabels([])
    for axes in grid[-1]:
        axes.set_xlabel(
            "points, 95 % intervals; diamond: of the mean, thin: of another setting",
            fontsize=8,
            color=GREY,
        )
    rows = sum(len(pair.pooled[POOLED[0]].settings) + 2.6 for pair in pairs)
    figure.set_size_inches(12, 0.4 + 0.34 * rows)
    return figure


def _draw(axes: "Axes", pooled: Pooled) -> None:
    low, high = _range(pooled)
    axes.set_xlim(low, high)
    for at, found in enumerate(pooled.settings.values()):
        _draw_interval(axes, at, found, low, high)
    bottom = len(pooled.settings) + 0.4
    _draw_mean(axes, bottom, pooled)
    axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
    axes.axhline(bottom - 0.7, color="#e6e6e6", linewidth=0.8)
    places = [*range(len(pooled.settings)), bottom]
    names = [*pooled.settings, f"mean of {len(pooled.settings)} settings"]
    for label in axes.set_yticks(places, names, fontsize=9):
        label.label1.set_parse_math(False)
    for at, found in zip(places, [*pooled.settings.values(), pooled.mean], strict=True):
        beside = axes.get_yaxis_transform()
        axes.text(1.02, at, mean_text(found), fontsize=8, va="center", color=INK, transform=beside)
    axes.set_ylim(bottom + 0.6, -0.6)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.tick_params(axis="x", labelsize=8, color=GREY, labelcolor=GREY)


def _range(pooled: Pooled) -> tuple[float, float]:
    """Of the axis, in points; intervals that are far wider than most would hide the others."""
    usual = median(x.high - x.low for x in pooled.settings.values())
    shown = [0.0, pooled.mean.low, pooled.mean.high, *(pooled.new or ())]
    for x in pooled.settings.values():
        wide = x.high - x.low > _FAR_WIDER * usual
        shown += [x.mean] if wide else [x.low, x.high]
    low, high = 100 * min(shown), 100 * max(shown)
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _draw_interval(axes: "Axes", at: float, found: Mean, low: float, high: float) -> None:
    ends = [max(low, 100 * found.low), min(high, 100 * found.high)]
    axes.plot(ends, [at, at], color=INK, linewidth=1.6, solid_capstyle="butt")
    for end, edge, arrow in ((found.low, low, "<"), (found.high, high, ">")):
        if not low <= 100 * end <= high:
            axes.plot(edge, at, arrow, color=INK, markersize=5, clip_on=False)
    axes.plot(100 * found.mean, at, "s", color=COLOURS[0], markersize=6)


def _draw_mean(axes: "Axes", at: float, pooled: Pooled) -> None:
    mean = pooled.mean
    if pooled.new:
        axes.plot([100 * x for x in pooled.new], [at, at], color=INK, linewidth=0.8)
    corners = [100 * x for x in (mean.low, mean.mean, mean.high, mean.mean)]
    axes.fill(corners, [at, at - _TALL, at, at + _TALL], color=COLOURS[0], zorder=3)
