"""The report's charts as plotly figures: one line, bar or panel a run.

They have no colours of paper and ink, which the page sets for a dark or a light room. Names that a
person gave go through :func:`text`, because plotly takes tags in them for its own.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from detcenter.analysis import Projection
from detcenter.analysis.plots import COLOURS, LONGEST_NAME, colour
from detcenter.evaluation.coco import RECALLS

_SYMBOLS = ("circle", "triangle-up", "square", "diamond", "cross", "star", "triangle-down")
_MOST_WRITTEN = 20  # classes, up to which charts have room for all names and counts
_BAR = 9  # pixels, the least a bar takes of the height


def text(name: str) -> str:
    """A name as plotly shows it letter by letter, or its beginning if it is long."""
    shown = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return escape(shown, quote=False)


def line(number: int) -> dict[str, Any]:
    """Of a run; where colours begin again, dashes tell runs apart."""
    dashes = ("solid", "dash", "dot")
    dash = dashes[number // len(COLOURS) % len(dashes)]
    return {"color": colour(number), "width": 2, "dash": dash}


def over_time(histories: Mapping[str, Sequence[Mapping[str, str]]], column: str) -> go.Figure:
    """One column of the runs' ``metrics.csv``, epoch by epoch."""
    lines = []
    for k, (run, rows) in enumerate(histories.items()):
        known = [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
        epochs, values = zip(*known, strict=True) if known else ((), ())
        lines.append(
            go.Scatter(
                x=epochs,
                y=values,
                name=text(run),
                mode="lines+markers",
                marker_size=4,
                line=line(k),
                hovertemplate="%{y:.4g}",
            )
        )
    yaxis = {"exponentformat": "none"}
    return figure(lines, xaxis={"title": "epoch"}, yaxis=yaxis, height=210, hovermode="x unified")


def by_class(
    values: Mapping[str, Mapping[str, float | None]], classes: Sequence[str], title: str
) -> go.Figure:
    """A bar for each class and run; a number that is not known has none."""
    bars = [
        go.Bar(
            y=_distinct(classes),
            x=[of_run.get(name) for name in classes],
            name=text(run),
            orientation="h",
            marker_color=colour(k),
            hovertemplate="%{y}: %{x:.3g}",
        )
        for k, (run, of_run) in enumerate(values.items())
    ]
    height = 90 + len(classes) * max(20, (_BAR + 2) * len(bars))
    # Bars are drawn from below; the first class and the first run belong on top.
    yaxis = {"type": "category", "autorange": "reversed", "automargin": True, "dtick": 1}
    return figure(bars, xaxis={"title": title}, yaxis=yaxis, height=height)


def precision_over_recall(
    curves: Mapping[str, Mapping[str, Mapping[str, list[float]]]], of_class: str | None
) -> go.Figure:
    """Of one class, or the mean of all that have objects; at an IoU of 0.5."""
    lines = []
    for k, (run, by_name) in enumerate(curves.items()):
        chosen = [
            curve
            for name, curve in by_name.items()
            if of_class in (None, name) and curve["precision"]
        ]
        if chosen:
            precision = np.mean([curve["precision"] for curve in chosen], axis=0)
            lines.append(_curve(k, run, precision, chosen[0]["score"] if of_class else None))
    unit = {"range": [0, 1.02]}
    return figure(
        lines,
        xaxis={"title": "recall", "hoverformat": ".2f"} | unit,
        yaxis={"title": "precision"} | unit,
        height=380,
        hovermode="x unified",
    )


def _curve(k: int, run: str, precision: np.ndarray, scores: Sequence[float] | None) -> go.Scatter:
    return go.Scatter(
        x0=0,
        dx=RECALLS[1],
        y=precision.astype(np.float32),
        customdata=None if scores is None else np.array(scores, np.float32),
        name=text(run),
        mode="lines",
        line=line(k),
        hovertemplate="%{y:.3f}" + ("" if scores is None else ", from score %{customdata:.2f} on"),
    )


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> go.Figure:
    """Rows are what is there, columns what was detected; the colour is the share of the row.

    The page says the counts on a hover.
    """
    counts = np.array(matrix)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few, names = len(labels) <= _MOST_WRITTEN, _distinct(labels)
    written = [[str(count) if count else "" for count in row] for row in counts.tolist()]
    heat = go.Heatmap(
        x=names,
        y=names,
        # Errors are rare and are what is looked for: the root lifts them off the ground.
        z=np.sqrt(share).astype(np.float32),
        zmin=0,
        zmax=1,
        text=written if few else None,
        texttemplate="%{text}" if few else None,
        hoverinfo="none",
        colorscale=[[0, "rgba(63,144,218,0.03)"], [1, "rgba(63,144,218,1)"]],
        showscale=False,
        xgap=1,
        ygap=1,
        meta="ink",
    )
    ticks = {"type": "category", "showgrid": False, "automargin": True}
    ticks |= {"tickfont": {"size": 12 if few else 9}}
    return figure(
        [heat],
        xaxis={"title": "detected", "tickangle": -45} | ticks,
        yaxis={"title": "ground truth", "autorange": "reversed"} | ticks,
        height=(320 if few else 10 * len(names)) + 110,
    )


def errors(
    splits: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    meanings: Mapping[str, str],
    ap: str = "AP50",
) -> go.Figure:
    """How much of that AP each kind of error costs."""
    bars = [
        go.Bar(
            x=list(meanings),
            y=[split[kind]["dAP"] for kind in meanings],
            customdata=[[meanings[kind], split[kind]["count"]] for kind in meanings],
            name=text(run),
            marker_color=colour(k),
            hovertemplate="%{customdata[0]}: +%{y:.3f} "
            f"{ap}, %{{customdata[1]}} errors at any score",
        )
        for k, (run, split) in enumerate(splits.items())
    ]
    return figure(bars, yaxis={"title": f"{ap} to be gained"}, height=340)


def reliability(bins: Mapping[str, Mapping[str, Sequence[float | None]]]) -> go.Figure:
    """Precision over the mean score of bins, beside the line where they are equal."""
    lines = [
        go.Scatter(
            x=of_run["score"],
            y=of_run["precision"],
            customdata=of_run["count"],
            name=text(run),
            mode="lines+markers",
            marker_size=7,
            line=line(k),
            connectgaps=True,  # an empty bin
            hovertemplate="score %{x:.2f}: %{y:.3f} of %{customdata} right",
        )
        for k, (run, of_run) in enumerate(bins.items())
    ]
    ideal = go.Scatter(
        x=[0, 1], y=[0, 1], name="ideal", mode="lines", hoverinfo="skip", meta="ink",
        line={"width": 1, "dash": "dot"},
    )  # fmt: skip
    unit = {"range": [0, 1.02]}
    lowest = min(of_run["from"][0] or 0 for of_run in bins.values())
    return figure(
        [ideal, *lines],
        xaxis={"title": "mean score", "range": [lowest, 1.02]},
        yaxis={"title": "part that is right"} | unit,
        height=340,
        hovermode="closest",
    )


def features(
    plane: Projection, classes: Sequence[str], points: Sequence[tuple[int | None, int]]
) -> go.Figure:
    """Boxes by their features in two dimensions, and the centers of the loss as named crosses.

    Args:
        points: of every point its crop and its image, by their numbers, which go with a hover.
    """
    if len(plane.points) != len(points):
        raise ValueError(f"{len(plane.points)} points in the plane, but {len(points)} with crops")
    few = len(classes) <= _MOST_WRITTEN
    present = [k for k in range(len(classes)) if (plane.labels == k + 1).any()]
    traces = [_boxes_of(k, classes[k], plane, points) for k in present]
    if plane.centers is not None:
        traces.append(_crosses(plane.centers, classes, named=few))
    axis = {"showticklabels": False, "zeroline": False}
    return figure(
        traces,
        xaxis=axis,
        yaxis=axis | {"scaleanchor": "x"},  # distances are what is looked at
        height=440,
        showlegend=few,
        dragmode="zoom",
        hovermode="closest",
    )


def _boxes_of(
    k: int, name: str, plane: Projection, points: Sequence[tuple[int | None, int]]
) -> go.Scatter:
    mine = np.flatnonzero(plane.labels == k + 1)
    return go.Scatter(
        x=plane.points[mine, 0].astype(np.float32),
        y=plane.points[mine, 1].astype(np.float32),
        customdata=[[*points[i], k] for i in mine.tolist()],
        name=text(name),
        mode="markers",
        marker={
            "color": colour(k),
            "symbol": _SYMBOLS[k // len(COLOURS) % len(_SYMBOLS)],
            "size": 6,
            "opacity": 0.75,
        },
        hoverinfo="none",  # the page shows the crop
    )


def _crosses(centers: np.ndarray, classes: Sequence[str], named: bool) -> go.Scatter:
    return go.Scatter(
        x=centers[:, 0],
        y=centers[:, 1],
        text=[text(name) for name in classes[: len(centers)]],
        name="centers",
        mode="markers+text" if named else "markers",
        textposition="top center",
        marker={"symbol": "x", "size": 11, "line": {"width": 1}},
        hovertemplate="center of %{text}<extra></extra>",
        meta="ink",  # in the colour of the page's letters
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """As :func:`text`, and invisible spaces where two would be one category of an axis.

    Long names may begin alike, and a class may be called background.
    """
    shown: list[str] = []
    for name in names:
        other = text(name)
        while other in shown:
            other += "\u200b"
        shown.append(other)
    return shown


def figure(traces: Sequence[Any], height: int, **layout: Any) -> go.Figure:
    defaults: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 48, "r": 12, "t": 12, "b": 44},
        "showlegend": False,
        "dragmode": False,  # a finger that scrolls the page would draw a rectangle
        "barmode": "group",
        "legend": {"orientation": "h", "y": -0.08, "font": {"size": 11}},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    return go.Figure(traces, defaults | layout)
