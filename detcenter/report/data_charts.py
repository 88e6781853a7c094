"""Charts of what a data set holds: boxes by class, their sizes and shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from detcenter.data.findings import Part, boxes_by_class
from detcenter.data.findings.found import boxes_of
from detcenter.report import charts

_SIZES = np.geomspace(1 / 256, 1, 33)  # of boxes, as parts of the image; 12 % a step
_SHAPES = np.geomspace(1 / 8, 8, 37)  # width by height, likewise


def data_charts(parts: Sequence[Part]) -> dict[str, Any]:
    """By the names that the page has for them."""
    classes = list(dict.fromkeys(name for part in parts for name in part.classes))
    names = [f"data.{part.name}" for part in parts]
    counts = [dict(zip(part.classes, boxes_by_class(part).tolist(), strict=True)) for part in parts]
    measured = [_sizes_and_shapes(part) for part in parts]
    sizes = dict(zip(names, (sizes for sizes, _ in measured), strict=True))
    shapes = dict(zip(names, (shapes for _, shapes in measured), strict=True))
    made = {
        "classes": charts.by_class(dict(zip(names, counts, strict=True)), classes, "boxes"),
        "sizes": _shares(sizes, _SIZES, "root of the area, as a part of the image's", 4),
        "shapes": _shares(shapes, _SHAPES, "width by height", 2),
    }
    return {name: figure.to_dict() for name, figure in made.items()}


def _sizes_and_shapes(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Of boxes with an area."""
    boxes = boxes_of(part)
    with np.errstate(invalid="ignore"):
        real = np.isfinite(boxes.sides).all(axis=1) & (boxes.sides > 0).all(axis=1)
    sides, sizes = boxes.sides[real], boxes.sizes[real]
    with np.errstate(over="ignore", divide="ignore"):
        return np.sqrt(sides.prod(axis=1) / sizes.prod(axis=1)), sides[:, 0] / sides[:, 1]


def _shares(
    values: Mapping[str, np.ndarray], edges: np.ndarray, title: str, tick: float
) -> go.Figure:
    """The percent of boxes in each bin; what is beyond the bins is in the last ones.

    Args:
        tick: by what a tick is larger than the one before; 1 has one.
    """
    lines = []
    for k, (name, of_part) in enumerate(values.items()):
        inside = np.clip(of_part, edges[0] * 1.001, edges[-1] * 0.999)
        counts, _ = np.histogram(inside, edges)
        lines.append(
            go.Scatter(
                x=np.sqrt(edges[1:] * edges[:-1]),
                y=100 * counts / max(1, len(of_part)),
                customdata=counts,
                name=charts.text(name),
                mode="lines",
                line={**charts.line(k), "shape": "hvh"},
                fill="tozeroy",
                hovertemplate="%{y:.1f} % of boxes (%{customdata})",
            )
        )
    powers = tick ** np.arange(-8.0, 9.0)
    ticks = powers[(powers >= edges[0]) & (powers <= edges[-1])].tolist()
    words = [f"1/{1 / value:.0f}" if value < 1 else f"{value:.0f}" for value in ticks]
    xaxis = {"type": "log", "title": title, "tickvals": ticks, "ticktext": words}
    xaxis |= {"hoverformat": ".3g", "range": np.log10(edges[[0, -1]]).tolist()}
    yaxis = {"title": "% of boxes", "rangemode": "tozero"}
    return charts.figure(lines, xaxis=xaxis, yaxis=yaxis, height=300, hovermode="x unified")
