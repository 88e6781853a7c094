"""A data set in, one self-contained HTML page out, with pictures of what was found in it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detcenter.analysis.plots import colour
from detcenter.data import DataError
from detcenter.data.findings import Finding, Part, Shown
from detcenter.report.crops import thumbnail
from detcenter.report.rendering import rendered_with_charts

_MOST_PICTURES = 12  # of a finding
_LONGEST_SIDE = 400  # of an image, pixels
_MOST_NAMED = 6  # boxes of a picture, up to which their names are written
_MOST_DRAWN = 300  # boxes of a picture
_MARGIN = 0.25  # of an image, that is shown beside it where a box reaches out
_SMALL = 0.03  # of the width, below which a box has a ring around it


def data_page(
    title: str,
    parts: Sequence[Part],
    table: Sequence[Sequence[str]],
    findings: Sequence[Finding],
    faults: Sequence[str],
    image: Callable[[Path], np.ndarray],
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> str:
    """HTML that opens without network: what a data set holds, and each finding with pictures.

    It needs plotly and Jinja2. Of a finding it has a dozen examples, and says of how many.

    Args:
        table: what each part holds, with a row of headings; see `detcenter check`.
        faults: lines.
        image: from a path to pixels, uint8 [H, W, 3].
        progress: gets the images that are shown, and gives them on one by one.
    """
    from detcenter.report.data_charts import data_charts  # needs plotly

    by_name = {part.name: part for part in parts}
    shown = [shown for finding in findings for shown in _shown(finding)]
    paths = {_path(by_name, place): None for place in shown}
    sources = {path: source for path in progress([*paths]) if (source := _source(path, image))}
    charts = data_charts(parts)
    return rendered_with_charts(
        "data",
        {"charts": charts},
        title=title,
        charts=charts,
        parts=[{"name": part.name, "colour": colour(k)} for k, part in enumerate(parts)],
        table=table,
        findings=[_for_the_page(finding, by_name, sources) for finding in findings],
        faults=faults,
    )


class _Source(NamedTuple):
    uri: str  # of the small picture
    width: int  # pixels of the image itself
    height: int


def _source(path: Path, image: Callable[[Path], np.ndarray]) -> _Source | None:
    try:
        pixels = image(path)
    except DataError:  # it is among the faults
        return None
    height, width = pixels.shape[:2]
    return _Source(thumbnail(pixels, _LONGEST_SIDE), width, height)


def _shown(finding: Finding) -> list[Shown]:
    return [place for example in finding.examples[:_MOST_PICTURES] for place in example.shown]


def _path(parts: Mapping[str, Part], place: Shown) -> Path:
    return parts[place.part].annotations[place.image]["path"]


def _for_the_page(
    finding: Finding, parts: Mapping[str, Part], sources: Mapping[Path, _Source]
) -> dict[str, Any]:
    cards = []
    for example in finding.examples[:_MOST_PICTURES]:
        known = [place for place in example.shown if _path(parts, place) in sources]
        pictures = [_picture(parts[p.part], p, sources[_path(parts, p)]) for p in known]
        cards.append({"text": example.text, "pictures": pictures})
    return finding._asdict() | {"cards": cards}


def _picture(part: Part, place: Shown, source: _Source) -> dict[str, Any]:
    """What is drawn: the image, and boxes in its pixels; all boxes where none is meant."""
    annotation = part.annotations[place.image]
    numbers = place.boxes or tuple(range(len(annotation["labels"])))
    corners = annotation["boxes"][list(numbers[:_MOST_DRAWN])].astype(np.float64)
    finite = np.asarray(np.isfinite(corners).all(axis=1))
    left, top, right, bottom = _frame(corners[finite], source)
    width = right - left
    boxes = [
        {
            "x": min(x1, x2),
            "y": min(y1, y2),
            "width": abs(x2 - x1),
            "height": abs(y2 - y1),
            "ring": max(abs(x2 - x1), abs(y2 - y1)) < _SMALL * width and bool(place.boxes),
            "name": part.classes[annotation["labels"][number] - 1],
        }
        for number, (x1, y1, x2, y2), sound in zip(
            numbers, corners.tolist(), finite.tolist(), strict=False
        )
        if sound
    ]
    return source._asdict() | {
        "caption": f"data.{part.name}, {annotation['path'].name}",
        "frame": [left, top, width, bottom - top],
        "boxes": boxes,
        "named": len(boxes) <= _MOST_NAMED,
        "meant": bool(place.boxes),
    }


def _frame(corners: np.ndarray, source: _Source) -> tuple[float, float, float, float]:
    """The image, and as much around it as its boxes need and is worth showing."""
    size = np.array([source.width, source.height], np.float64)
    points = np.concatenate([corners[:, :2], corners[:, 2:], [[0, 0]], [size]])
    low = np.clip(points.min(axis=0), -_MARGIN * size, 0)
    high = np.clip(points.max(axis=0), size, (1 + _MARGIN) * size)
    return (*low.tolist(), *high.tolist())
