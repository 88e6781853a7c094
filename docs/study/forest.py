"""The interval of every setting of both studies, as a picture.

python docs/study/forest.py docs/study/forest.png
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import first_table
import matplotlib.pyplot as plt
import numpy as np
import votes
from intervals import pair_of, points
from matplotlib.axes import Axes
from second import FOUR, FRESH, OF_SSD, difference, t_interval

SECOND = Path(__file__).parent / "second"
LIMIT = 8.0  # points; intervals that are wider end in an arrow


class Row(NamedTuple):
    label: str
    mean: float
    low: float
    high: float
    color: str
    comparison: Path | None = None  # of the second study


def rows() -> Iterator[str | Row]:
    """Titles and what stands below them."""
    yield "Second study. Faster R-CNN: term on own vectors, weight 3 − plain"
    yield _compared("digits", "clean", "plain", "center")
    yield _of_sets(
        "digits, twice as long", difference("clean_twice", "plain", "center", "AP", sets=FOUR)
    )
    yield _compared("30 % wrong labels", "wrong_labels", "plain", "center")
    yield _compared("dice by 3 folds", "rcnn_dice", "plain", "center")
    yield _compared("chess by 3 folds", "rcnn_chess", "plain", "center")
    yield _compared("blood cells", "rcnn_bccd", "plain", "center")
    yield "Second study. Faster R-CNN, digits: term at weight 1 beside a softmax at 0.3"
    yield _of_sets("both − plain", difference("clean", "plain", "both", "AP"))
    yield _of_sets("both − term at weight 3", difference("clean", "center", "both", "AP"))
    yield _of_sets(
        "both − that softmax", difference("clean", "softmax_0.3", "both", "AP", seeds=OF_SSD)
    )
    yield "Second study. SSD: the embedding votes − it does not"
    yield _votes("digits", "ssd", "softmax")
    yield _votes("digits, term at weight 0.3", "ssd", "center")
    yield _votes("digits, 50 scenes", "ssd_50scenes", "softmax")
    yield _compared("dice", "ssd_dice", "softmax", "vote")
    yield _compared("dice by 3 folds", "ssd_dice_folds", "softmax", "vote")
    yield _compared("chess", "ssd_chess", "softmax", "vote")
    yield _compared("blood cells", "ssd_bccd", "softmax", "vote")
    yield "Second study. SSD: a vector of each box, no center loss"
    yield _of_sets(
        "digits: vectors − plain", difference("ssd_leads", "plain", "product", "AP", seeds=OF_SSD)
    )
    yield _of_sets("digits: vectors − softmax", difference("ssd_leads", "softmax", "product", "AP"))
    yield _of_sets(
        "fresh digits: vectors − softmax",
        difference("ssd_confirmed", "softmax", "vectors", "AP", seeds=OF_SSD, sets=FRESH),
    )
    yield _compared("dice, clipped: vectors − plain", "ssd_dice_clipped", "plain", "vectors")
    yield _compared("dice by 3 folds: vectors − softmax", "ssd_dice_vectors", "softmax", "product")
    yield "Second study. SSD, digits: centers in the class layers or the embedding"
    yield _of_sets(
        "cosines to prototypes − softmax",
        difference("ssd_leads", "softmax", "cosine", "AP", seeds=OF_SSD),
    )
    yield _of_sets(
        "the same − a product", difference("ssd_leads", "product", "cosine", "AP", seeds=OF_SSD)
    )
    yield _of_sets(
        "term on vectors − without it",
        difference("ssd_leads", "product", "product_center", "AP", seeds=OF_SSD),
    )
    yield _of_sets(
        "competitive centers − softmax", difference("ssd_leads", "softmax", "competitive", "AP")
    )
    yield _of_sets(
        "term at 0.3 − softmax", difference("ssd", "softmax", "center", "AP", seeds=OF_SSD)
    )
    for title in first_table.GROUPS:
        yield f"First study. {title}"
        for label, pair, both in first_table.rows_of(title):
            values = pair.values["AP"]
            yield Row(f"{label}  ({len(values)})", values.mean(), both.low, both.high, "C0")


def _compared(label: str, name: str, first: str, second: str) -> Row:
    """Of a comparison's JSON. Over seeds its own joint interval, with that over images."""
    file = SECOND / f"{name}.json"
    values = pair_of(file, first, second).values["AP"]
    comparison = json.loads(file.read_text())
    if comparison["images"] is None:  # data sets have images of their own
        return _of_sets(label, values)._replace(comparison=file)
    pairs = {(pair["first"], pair["second"]): pair for pair in comparison["pairs"]}
    low, high = 100 * np.array(pairs[first, second]["AP"]["joint"])
    return Row(f"{label}  ({len(values)})", values.mean(), low, high, "C3", file)


def _votes(label: str, setting: str, arm: str) -> Row:
    return _of_sets(label, votes.differences(votes.listed(), setting, arm, "softmax:0.5")[:, 0])


def _of_sets(label: str, values: np.ndarray | None) -> Row:
    """A difference a data set, and the protocol's t interval."""
    assert values is not None, f"runs are missing: {label}"
    return Row(f"{label}  ({len(values)})", values.mean(), *t_interval(values), "C3")


def draw(file: Path) -> None:
    figure, axes = plt.subplots()
    axes.axvline(0, color="0.6", linewidth=1)
    y = 0.0
    for row in rows():
        if isinstance(row, str):
            y += 1 if y else 0
            across = axes.get_yaxis_transform()
            clear = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # of lines
            axes.text(-0.66, y, row, transform=across, weight="bold", bbox=clear)
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
