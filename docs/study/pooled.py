"""One pair of variants over several comparisons: the mean of the settings, and how far they agree.

python docs/study/pooled.py softmax center docs/study/ssd_200.json docs/study/ssd_100.json

Settings share seeds and validation images, so their pairs of runs are not independent. The 95 %
intervals differ in what they take as drawn anew:

- seeds: these settings and images again; pairs of one seed go together.
- seeds and images: other images as well. The errors of settings that share a validation set are
  added as if they were the same, which is the widest that they can be. At 90 % too: where that
  lies within a point, there is no effect of a point or more.
- settings: settings like these, each independent of the others.
- settings and seeds: pairs of one setting go together, and pairs of one seed (two ways, Cameron,
  Gelbach and Miller, Journal of Business & Economic Statistics 2011).
- validation sets and seeds: the same, by validation set and seed. Two or three sets tell little.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from intervals import (
    Interval,
    Pair,
    added,
    images_error,
    over_both,
    over_seeds,
    pair_of,
    points,
    t_interval,
    validation_set,
)
from scipy import stats  # type: ignore[import-untyped]


class Setting(NamedTuple):
    name: str
    pair: Pair
    validation: tuple[str, int]  # the set, and its images


class Runs(NamedTuple):
    """Pairs of runs, the settings' one after the other."""

    values: np.ndarray  # points
    weights: np.ndarray  # in the mean; their sum is 1
    setting: np.ndarray
    seed: np.ndarray
    validation: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.weights @ self.values)


def main(first: str, second: str, files: Sequence[str]) -> None:
    settings = [
        Setting(Path(f).stem, pair_of(Path(f), first, second), validation_set(Path(f)))
        for f in files
    ]
    for metric in ("AP", "AP50"):
        runs = runs_of(settings, metric)
        counts = [len(np.unique(x)) for x in (runs.setting, runs.seed, runs.validation)]
        print(f"{second} - {first}, {metric}, points: {len(runs.values)} pairs of runs in", end=" ")
        print("{} settings, {} seeds, {} validation sets".format(*counts))
        for label, mean, found in intervals(settings, metric):
            low, high = points(found.low, 2), points(found.high, 2)
            print(f"  {label:44}{points(mean, 2)} ({low} to {high}), df {found.df:.3g}")
        print(f"  {left_out(settings, metric)}")
        if metric == "AP":  # of the others there is no interval over images
            q, p, part, tau2 = heterogeneity(settings)
            numbers = f"Q {q:.1f}, df {counts[0] - 1}, p {p:.2g}; I² {100 * part:.0f} %"
            print(f"  heterogeneity: {numbers}, tau² {tau2:.2f}")


def intervals(settings: Sequence[Setting], metric: str) -> list[tuple[str, float, Interval]]:
    """What is drawn anew, the mean, and its interval."""
    runs = runs_of(settings, metric)
    means = np.array([s.pair.values[metric].mean() for s in settings])
    found = {"seeds": clustered(runs, runs.seed)}
    if metric == "AP":
        found["seeds and images"] = over_seeds_and_images(settings, runs)
        found["seeds and images, 90 %"] = over_seeds_and_images(settings, runs, 0.9)
    found["settings"] = over_seeds(means)
    found["settings and seeds"] = clustered(runs, runs.setting, runs.seed)
    found["validation sets and seeds"] = clustered(runs, runs.validation, runs.seed)
    rows = [(f"mean of settings: {name}", runs.mean, x) for name, x in found.items()]
    every = runs._replace(weights=np.full(len(runs.values), 1 / len(runs.values)))
    found = {"seeds": clustered(every, every.seed)}
    found["settings and seeds"] = clustered(every, every.setting, every.seed)
    return rows + [(f"mean of pairs: {name}", every.mean, x) for name, x in found.items()]


def runs_of(settings: Sequence[Setting], metric: str) -> Runs:
    columns: list[list[object]] = [[], [], [], [], []]
    for setting in settings:
        values = setting.pair.values[metric]
        for seed, value in zip(setting.pair.seeds, values, strict=True):
            row = (value, 1 / len(values) / len(settings), setting.name, seed)
            for column, cell in zip(columns, (*row, setting.validation[0]), strict=True):
                column.append(cell)
    return Runs(*map(np.array, columns))


def clustered(runs: Runs, *by: np.ndarray) -> Interval:
    """Of the mean, with errors that go together where one of one or two labels is equal.

    V = V_1 + V_2 - V_12, each with G / (G - 1), and t with the fewer clusters less one.
    """
    parts = [_cluster_variance(runs, labels) for labels in by]
    variance = sum(parts)
    if len(by) == 2:
        both = np.array([f"{a} {b}" for a, b in zip(*by, strict=True)])
        variance -= _cluster_variance(runs, both)
    variance = variance if variance > 0 else max(parts)  # V need not be positive
    df = min(len(np.unique(labels)) for labels in by) - 1
    return t_interval(runs.mean, float(np.sqrt(variance)), df)


def _cluster_variance(runs: Runs, labels: np.ndarray) -> float:
    errors = runs.weights * (runs.values - runs.mean)
    names = np.unique(labels)
    sums = [errors[labels == name].sum() for name in names]
    return float(np.square(sums).sum()) * len(names) / (len(names) - 1)


def over_seeds_and_images(
    settings: Sequence[Setting], runs: Runs, confidence: float = 0.95
) -> Interval:
    seeds = len(np.unique(runs.seed))
    parts = [(float(np.sqrt(_cluster_variance(runs, runs.seed))), float(seeds - 1))]
    for name, num_images in sorted({s.validation for s in settings}):
        errors = [images_error(s.pair) for s in settings if s.validation[0] == name]
        parts.append((sum(errors) / len(settings), num_images - 1))
    return t_interval(runs.mean, *added(parts), confidence)


def left_out(settings: Sequence[Setting], metric: str) -> str:
    means = {s.name: float(s.pair.values[metric].mean()) for s in settings}
    without = {n: float(np.mean([v for m, v in means.items() if m != n])) for n in means}
    ends = [choice(without, key=without.__getitem__) for choice in (min, max)]
    return "without one setting: " + " to ".join(f"{points(without[n], 2)} ({n})" for n in ends)


def heterogeneity(settings: Sequence[Setting]) -> tuple[float, float, float, float]:
    """Cochran's Q, its p, I² and DerSimonian and Laird's tau², from the errors over both."""
    means = np.array([s.pair.values["AP"].mean() for s in settings])
    weights = 1 / np.square([_error(s) for s in settings])
    q = float(weights @ (means - np.average(means, weights=weights)) ** 2)
    df = len(settings) - 1
    scale = weights.sum() - np.square(weights).sum() / weights.sum()
    return q, float(stats.chi2.sf(q, df)), max(0.0, 1 - df / q), max(0.0, float((q - df) / scale))


def _error(setting: Setting) -> float:
    interval = over_both(setting.pair, setting.validation[1])
    return (interval.high - interval.low) / 2 / float(stats.t.ppf(0.975, interval.df))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
