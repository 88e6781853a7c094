"""What a comparison says of each pair of variants: over seeds, over images, and over both.

python docs/study/intervals.py docs/study/rcnn_200.json
"""

import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

DICE, FORTY, DIGITS = ("dice", 50), ("digits in four styles", 200), ("digits", 200)


class Pair(NamedTuple):
    """Second minus first, in points; the values are of the seeds, in their order."""

    first: str
    second: str
    seeds: list[int]
    values: dict[str, np.ndarray]  # of AP, AP50 and AP75
    images: tuple[float, float]  # the 95 % interval of AP over resampled validation images


class Interval(NamedTuple):
    low: float
    high: float
    df: float

    def __str__(self) -> str:
        return f"{points(self.low)} to {points(self.high)}"


def points(value: float) -> str:
    """A zero has no sign."""
    text = f"{value:+.1f}"
    return text if float(text) else text[1:]


def pairs_of(file: Path) -> list[Pair]:
    return [
        Pair(
            pair["first"],
            pair["second"],
            pair["seeds"],
            {name: 100 * np.array(pair[name]["values"]) for name in ("AP", "AP50", "AP75")},
            tuple(100 * x for x in pair["images"]["interval"]),
        )
        for pair in json.loads(file.read_text())["pairs"]
    ]


def pair_of(file: Path, first: str, second: str) -> Pair:
    for pair in pairs_of(file):
        if (pair.first, pair.second) == (first, second):
            return pair
    sys.exit(f"{file} has no pair of {first} and {second}")


def validation_set(file: Path) -> tuple[str, int]:
    """Which one a comparison was measured on, and of how many images.

    Scenes for validation do not depend on how many there are for training, on a tail or on labels.
    """
    if "dice" in file.stem:
        return DICE
    return FORTY if "40classes" in file.stem else DIGITS


def over_seeds(values: np.ndarray) -> Interval:
    """Student's 95 % interval of the mean."""
    return t_interval(float(values.mean()), float(stats.sem(values)), len(values) - 1)


def over_both(pair: Pair, num_images: int) -> Interval:
    """Of AP, over other seeds and other validation images.

    The squared standard errors are added, the degrees of freedom are Satterthwaite's.
    """
    ap = pair.values["AP"]
    parts = [(float(stats.sem(ap)), len(ap) - 1), (images_error(pair), num_images - 1)]
    return t_interval(float(ap.mean()), *added(parts))


def images_error(pair: Pair) -> float:
    """The standard error over images, from its 95 % interval."""
    return (pair.images[1] - pair.images[0]) / (2 * 1.96)


def added(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of independent errors, each a standard error and its degrees of freedom, those of the sum.

    Satterthwaite, Biometrics Bulletin 1946.
    """
    variance = sum(error**2 for error, _ in parts)
    return float(np.sqrt(variance)), variance**2 / sum(error**4 / df for error, df in parts)


def t_interval(mean: float, error: float, df: float) -> Interval:
    half = float(stats.t.ppf(0.975, df)) * error
    return Interval(mean - half, mean + half, df)


def sign_flip_p(values: np.ndarray) -> float:
    """Two-sided, by all 2^n signs."""
    flips = np.array(list(product((-1, 1), repeat=len(values))))
    return float((np.abs(flips @ values) >= abs(values.sum()) - 1e-9).mean())


def main(file: Path) -> None:
    """Print a line a pair: points of AP with three intervals and the exact p, and of AP50."""
    _, num_images = validation_set(file)
    for pair in pairs_of(file):
        ap, ap50 = pair.values["AP"], pair.values["AP50"]
        name = f"{pair.second} - {pair.first}:"
        images = " to ".join(map(points, pair.images))
        print(
            f"{name:24}AP {points(ap.mean())}, seeds {over_seeds(ap)}, images {images}, "
            f"both {over_both(pair, num_images)}\n"
            f"{'':24}p {sign_flip_p(ap):.2g}, {(ap > 0).sum()} of {len(ap)} gain; "
            f"AP50 {points(ap50.mean())}, seeds {over_seeds(ap50)}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
