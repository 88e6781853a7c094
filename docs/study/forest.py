"""The interval of every setting of both studies, as a picture.

python docs/study/forest.py docs/study/forest.png
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import first_table
import matplotlib.pyplot as plt
import numpy as np
import votes
from intervals import pair_of, points
from matplotlib.axes import Axes
from second import FOUR, FRESH, OF_SSD, SEEDS, difference, t_interval

SECOND = Path(__file__).parent / "second"
LIMIT = 8.0  # points; intervals that are wider end in an arrow
VECTORS, VOTES, OF_BOXES = (
    "Second study. Faster R-CNN, own vectors, weight 3",
    "Second study. SSD: the embedding votes − it does not",
    "Second study. SSD: a vector of each box, no center loss",
)
# Label, comparison, first and second variant.
GROUPS = {
    VECTORS: [
        ("digits: term − plain", "clean", "plain", "center"),
        ("30 % wrong labels: term − plain", "wrong_labels", "plain", "center"),
        ("dice by 3 folds: term − plain", "rcnn_dice", "plain", "center"),
        ("chess by 3 folds: term − plain", "rcnn_chess", "plain", "center"),
        ("blood cells: term − plain", "rcnn_bccd", "plain", "center"),
    ],
    VOTES: [
        ("dice, center at weight 0", "ssd_dice", "softmax", "vote"),
        ("dice by 3 folds, weight 0", "ssd_dice_folds", "softmax", "vote"),
        ("chess, center at weight 0", "ssd_chess", "softmax", "vote"),
        ("blood cells, center at weight 0", "ssd_bccd", "softmax", "vote"),
    ],
    OF_BOXES: [
        ("dice, clipped: vectors − plain", "ssd_dice_clipped", "plain", "vectors"),
        ("dice by 3 folds: vectors − softmax", "ssd_dice_vectors", "softmax", "product"),
    ],
}
# Of runs that second.py reads: what `difference` is asked.
OF_SETS: dict[str, dict[str, Any]] = {
    VECTORS: {
        "digits, twice as long: term − plain": ("clean_twice", "plain", "center", "AP", SEEDS, FOUR)
    },
    OF_BOXES: {
        "digits: vectors − plain": ("ssd_leads", "plain", "product", "AP", OF_SSD),
        "digits: vectors − softmax": ("ssd_leads", "softmax", "product", "AP", SEEDS),
        "fresh digits: vectors − softmax": (
            "ssd_confirmed",
            "softmax",
            "vectors",
            "AP",
            OF_SSD,
            FRESH,
        ),
    },
}


class Row(NamedTuple):
    label: str
    mean: float
    low: float
    high: float
    color: str


def rows() -> Iterator[str | Row]:
    """Titles and what stands below them."""
    for title, settings in GROUPS.items():
        yield title
        if title == VOTES:
            yield _votes("digits, center at weight 0", "softmax")
            yield _votes("digits, center at weight 0.3", "center")
        for label, asked in OF_SETS.get(title, {}).items():
            yield _of_sets(label, difference(*asked))
        for label, name, first, second in settings:
            yield _second(label, SECOND / f"{name}.json", first, second)
    for title in first_table.GROUPS:
        yield title
        for label, pair, both in first_table.rows_of(title):
            values = pair.values["AP"]
            yield Row(f"{label}  ({len(values)})", values.mean(), both.low, both.high, "C0")


def _second(label: str, file: Path, first: str, second: str) -> Row:
    """Data sets have images of their own: the protocol's t interval. Else compare's own."""
    values = pair_of(file, first, second).values["AP"]
    comparison = json.loads(file.read_text())
    low, high = t_interval(values)
    if comparison["images"] is not None:
        pairs = {(pair["first"], pair["second"]): pair for pair in comparison["pairs"]}
        low, high = 100 * np.array(pairs[first, second]["AP"]["joint"])
    return Row(f"{label}  ({len(values)})", values.mean(), low, high, "C3")


def _votes(label: str, arm: str) -> Row:
    return _of_sets(label, votes.differences(votes.listed(), "ssd", arm, "softmax:0.5")[:, 0])


def _of_sets(label: str, values: np.ndarray | None) -> Row:
    """Differences of data sets, all of which are known."""
    assert values is not None, f"runs are missing: {label}"
    return Row(f"{label}  ({len(values)})", values.mean(), *t_interval(values), "C3")


def draw(file: Path) -> None:
    figure, axes = plt.subplots()
    axes.axvline(0, color="0.6", linewidth=1)
    y = 0.0
    for row in rows():
        if isinstance(row, str):
            y += 1 if y else 0
            axes.text(-0.66, y, row, transform=axes.get_yaxis_transform(), weight="bold")
        else:
            _draw(axes, y, row)
        y += 1
    figure.set_size_inches(5.2, 0.2 * y + 0.8)
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(y - 0.4, -0.6), yticks=[])
    axes.set_xlabel("difference of AP, points: mean, and 95 % interval")
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    figure.savefig(file, dpi=110, bbox_inches="tight")


def _draw(axes: Axes, y: float, row: Row) -> None:
    ends = np.clip([row.low, row.high], -LIMIT, LIMIT)
    axes.plot(ends, [y, y], color=row.color, linewidth=1.6)
    axes.plot(row.mean, y, "o", color=row.color, markersize=5)
    for end, marker in ((row.low, "<"), (row.high, ">")):
        if abs(end) > LIMIT:
            at = np.clip(end, -LIMIT, LIMIT)
            axes.plot(at, y, marker, color=row.color, markersize=6, clip_on=False)
    across = axes.get_yaxis_transform()
    axes.text(-0.64, y, row.label, transform=across, va="center", fontsize=9)
    numbers = f"{points(row.mean)}  ({points(row.low)} to {points(row.high)})".replace("-", "−")
    axes.text(1.04, y, numbers, transform=across, va="center", fontsize=9)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
