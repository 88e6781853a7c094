"""Variants of a training, each with several seeds: tables, pairs, and the plain sentence."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from detcenter.analysis.paired import (
    PairedDifference,
    mean_and_spread,
    paired_difference,
    resampling_interval,
)
from detcenter.evaluation.table import aligned

COMPARED = ("AP", "AP50", "AP75")
_FEW = 5  # seeds, below which agreement may be luck
_COSTS = ("own_ratio", "term_ratio", "step_seconds", "memory_mib")


class SeedScores(NamedTuple):
    """What one seed of a variant gave."""

    ap: Mapping[str, float]
    """AP, AP50 and AP75, in [0, 1]"""
    by_class: Mapping[str, float]
    """AP of every class; nan of one without objects"""
    resampled: np.ndarray
    """[B]: AP over B resamples of the images, the same for all seeds and variants"""
    costs: Mapping[str, float | None]
    """own_ratio and term_ratio (scatter within to between classes, of the detector's own vectors
    and of those that the term reads), step_seconds, memory_mib; None where not known"""
    validation: str = ""
    """fingerprint of the data it was measured on"""


class VariantScores(NamedTuple):
    """A variant by the name that a person knows it by."""

    name: str
    seeds: Mapping[int, SeedScores]


class Pair(NamedTuple):
    """What two variants have over each other; differences are `second` minus `first`."""

    first: str
    second: str
    seeds: list[int]  # that both have
    differences: Mapping[str, PairedDifference]  # by the names in COMPARED
    images: tuple[float, float]  # 95 % interval of the AP difference over resampled images
    images_by_seed: Mapping[int, tuple[float, float]]

    @property
    def sentence(self) -> str:
        """Helps, hurts, or cannot be told: in points of AP."""
        ap, seeds = self.differences["AP"], len(self.seeds)
        size = f"AP {_points(ap.mean)} points, 95 % interval {_interval(ap.low, ap.high)}"
        chance = f"{size} over {seeds} seeds (permutation p {ap.p:.2g})"
        # So few may agree by luck; five are what a comparison starts with.
        seems = f", as far as {seeds} seeds can tell" if seeds < _FEW else ""
        told = {
            "helps": f"helps{seems}: {chance}",
            "hurts": f"hurts{seems}: {chance}",
            "cannot be told": f"cannot be told with {seeds} seeds: {chance}; {_needed(ap)}",
        }[ap.verdict]
        images = f"other images: {_interval(*self.images)}"
        return f"{self.second} against {self.first}: {told}; {images}"


class Comparison(NamedTuple):
    """Variants and all their pairs."""

    classes: list[str]
    variants: list[VariantScores]
    pairs: list[Pair]


def compare(variants: Sequence[VariantScores], classes: Sequence[str]) -> Comparison:
    """Every variant against those before it, by the seeds that both have.

    Pairs that share fewer than two seeds are left out.
    """
    pairs = [_pair(first, second) for first, second in combinations(variants, 2)]
    return Comparison(list(classes), list(variants), [pair for pair in pairs if pair])


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """All numbers as JSON values; what is not known or undefined is null."""
    return {
        "variants": [_variant_json(variant) for variant in comparison.variants],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "seeds": pair.seeds,
                **{name: _difference_json(x) for name, x in pair.differences.items()},
                "images": {
                    "interval": list(pair.images),
                    "by_seed": {str(seed): list(x) for seed, x in pair.images_by_seed.items()},
                },
                "sentence": pair.sentence,
            }
            for pair in comparison.pairs
        ],
        "validation": {
            str(seed): scores.validation
            for variant in comparison.variants
            for seed, scores in variant.seeds.items()
        },
    }


def comparison_table(comparison: Comparison) -> str:
    """Means and spreads of the variants, AP by class, and a sentence a pair, as aligned text."""
    variants, by_class, sentences = comparison_rows(comparison_json(comparison))
    head, *rows = variants
    numbered = [["", *head], *([str(i), *row] for i, row in enumerate(rows, start=1))]
    places = ["AP of class", *(str(i) for i in range(1, len(rows) + 1))]
    tables = [aligned(numbered, 2), aligned([places, *by_class[1:]], 1)]
    return "\n\n".join([*tables, "\n".join(sentences)])


def comparison_rows(
    values: Mapping[str, Any],
) -> tuple[list[list[str]], list[list[str]], list[str]]:
    """Of what `comparison_json` gives: variants, their AP by class, and sentences about pairs.

    The first row of each table is its head.
    """
    variants, pairs = values["variants"], values["pairs"]
    head = ["variant", "seeds", *COMPARED, "own ratio", "term ratio", "ms a step", "MiB"]
    by_class = [["class", *(variant["name"] for variant in variants)]]
    for name in variants[0]["AP_by_class"]:
        summaries = (variant["AP_by_class"][name] for variant in variants)
        by_class.append([name, *(_number(_mean(x["values"]), ".3f") for x in summaries)])
    sentences = [pair["sentence"] for pair in pairs]
    compared = {(pair["first"], pair["second"]) for pair in pairs}
    for first, second in combinations([variant["name"] for variant in variants], 2):
        if (first, second) not in compared:
            sentences.append(f"{second} against {first}: fewer than two seeds in common")
    if len(pairs) > 1:
        sentences.append(f"{len(pairs)} pairs: of twenty intervals one misses the truth by chance")
    return [head, *map(_row, variants)], by_class, sentences


def _pair(first: VariantScores, second: VariantScores) -> Pair | None:
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if len(seeds) < 2:
        return None
    before, after = ([variant.seeds[seed] for seed in seeds] for variant in (first, second))
    differences = {
        name: paired_difference([s.ap[name] for s in before], [s.ap[name] for s in after])
        for name in COMPARED
    }
    resampled = np.array([b.resampled - a.resampled for a, b in zip(before, after, strict=True)])
    by_seed = {seed: resampling_interval(x) for seed, x in zip(seeds, resampled, strict=True)}
    images = resampling_interval(resampled.mean(axis=0))
    return Pair(first.name, second.name, seeds, differences, images, by_seed)


def _values(variant: VariantScores, name: str) -> list[float]:
    """Of every seed, where it is known."""
    found = (s.costs[name] if name in _COSTS else s.ap[name] for s in variant.seeds.values())
    return [value for value in found if value is not None]


def _variant_json(variant: VariantScores) -> dict[str, Any]:
    numbers: dict[str, Any] = {"name": variant.name, "seeds": list(variant.seeds)}
    for name in (*COMPARED, *_COSTS):
        values = _values(variant, name)
        numbers[name] = _summary_json(values) if values else None
    numbers["AP_by_class"] = {
        name: _summary_json([scores.by_class[name] for scores in variant.seeds.values()])
        for name in next(iter(variant.seeds.values())).by_class
    }
    return numbers


def _summary_json(values: Sequence[float]) -> dict[str, Any]:
    summary = {name: _or_none(x) for name, x in mean_and_spread(values).items()}
    return summary | {"values": [_or_none(value) for value in values]}


def _difference_json(difference: PairedDifference) -> dict[str, Any]:
    numbers = difference._asdict()
    interval = [numbers.pop("low"), numbers.pop("high")]
    return numbers | {"interval": interval, "verdict": difference.verdict}


def _row(variant: Mapping[str, Any]) -> list[str]:
    def cell(name: str, digits: str, scale: float = 1.0) -> str:
        summary = variant[name]
        if summary is None:
            return "–"
        mean = _number(summary["mean"], digits, scale)
        many = len(summary["values"]) > 1
        return f"{mean} ±{_number(summary['std'], digits, scale)}" if many else mean

    ap = [cell(name, ".3f") for name in COMPARED]
    ratios = [cell(name, ".3f") for name in ("own_ratio", "term_ratio")]
    costs = [cell("step_seconds", ".0f", 1000), cell("memory_mib", ".0f")]
    return [variant["name"], str(len(variant["seeds"])), *ap, *ratios, *costs]


def _needed(ap: PairedDifference) -> str:
    if ap.seeds_to_tell is None:
        return "no number of seeds up to 1000 would tell so small a difference"
    if ap.seeds_to_tell <= len(ap.values):
        return "a few more would tell, if the difference is as it looks"
    return f"about {ap.seeds_to_tell} would tell, if the difference is as it looks"


def _interval(low: float, high: float) -> str:
    return f"{_points(low)} to {_points(high)}"


def _points(part: float) -> str:
    """In points, hundredths of AP; a zero has no sign."""
    return f"{100 * part + 0.0:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _number(value: float | None, digits: str, scale: float = 1.0) -> str:
    return "–" if value is None else format(scale * value, digits)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
