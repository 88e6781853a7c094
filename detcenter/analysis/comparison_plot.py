"""The picture of a comparison. It needs matplotlib, which is imported when drawing."""

from typing import TYPE_CHECKING, Any

import numpy as np

from detcenter.analysis.comparison import Comparison
from detcenter.analysis.plots import COLOURS, GREY, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METRICS = ("AP", "AP50")


def comparison_figure(comparison: Comparison) -> "Figure":
    """Left the AP and AP50 of every seed and their mean, right the paired differences of AP.

    On the right a point is a seed, the thick line the 95 % interval over seeds and images, and the
    thin one that over seeds alone. Pairs without the baseline, which get no verdict, are grey.

    Raises:
        ImportError: matplotlib is not installed.
    """
    variants, pairs = comparison.variants, comparison.pairs
    seeds = list(dict.fromkeys(seed for variant in variants for seed in variant.seeds))
    # A seed has the same height in every row, so that pairs can be followed.
    heights = dict(zip(seeds, np.linspace(-0.18, 0.18, len(seeds)).tolist(), strict=True))
    figure = new_figure()
    widths = [1] * len(_METRICS) + ([1.4] if pairs else [])
    row = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    for axes, metric in zip(row, _METRICS, strict=False):
        _draw_seeds(
            axes,
            [{k: s.ap[metric] for k, s in variant.seeds.items()} for variant in variants],
            heights,
        )
        axes.set_title(metric, fontsize=11)
        _name_rows(axes, [variant.name for variant in variants] if axes is row[0] else None)
    if pairs:
        _draw_differences(row[-1], comparison, heights)
    figure.set_size_inches(11, 1.2 + 0.5 * max(len(variants), 1.3 * len(pairs)))
    return figure


def _draw_seeds(axes: "Axes", rows: list[dict[Any, float]], heights: dict[Any, float]) -> None:
    for at, row in enumerate(rows):
        values = list(row.values())
        axes.plot(
            values,
            [at + heights[seed] for seed in row],
            "o",
            color=COLOURS[at % len(COLOURS)],
            alpha=0.8,
            markersize=5,
        )
        axes.plot([np.mean(values)] * 2, [at - 0.32, at + 0.32], color=INK, linewidth=2)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [""] * len(rows))
    _plain(axes)


def _draw_differences(axes: "Axes", comparison: Comparison, heights: dict[Any, float]) -> None:
    pairs, units = comparison.pairs, comparison.units
    for at, pair in enumerate(pairs):
        ap, colour = pair.differences["AP"], INK if at < len(comparison.verdicts) else GREY
        axes.plot([100 * x for x in ap.joint], [at, at], color=colour, linewidth=3)
        if comparison.images is not None:
            axes.plot([100 * ap.low, 100 * ap.high], [at + 0.3] * 2, color=GREY, linewidth=1)
        rows = [at + heights[seed] for seed in pair.seeds]
        axes.plot([100 * x for x in ap.values], rows, "o", color=COLOURS[0], markersize=4)
        axes.plot(100 * ap.mean, at, "D", color=colour, markersize=6)
    axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.yaxis.tick_right()
    names = [f"{pair.second}\nminus {pair.first}" for pair in pairs]
    axes.set_yticks(range(len(pairs)), names, fontsize=8)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)  # a variant may be called "US$"
    axes.set_title("difference of AP, points", fontsize=11)
    alone = f" and images; thin: {units} alone" if comparison.images is not None else ""
    axes.set_xlabel(f"thick: 95 % over {units}{alone}", fontsize=8, color=GREY)
    _plain(axes)


def _name_rows(axes: "Axes", names: list[str] | None) -> None:
    if names is None:
        axes.set_yticklabels([])
        return
    for label in axes.set_yticklabels(names, fontsize=9):
        label.set_parse_math(False)


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8, color=GREY, labelcolor=GREY)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
