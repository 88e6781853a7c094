"""Variants of a training, each with several seeds or data sets: pairs and verdicts."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from detcenter.analysis.paired import (
    COMPARED,
    PairedDifference,
    paired_difference,
    resampling_interval,
)
from detcenter.analysis.verdict import Verdict, interval_text, points, verdicts
from detcenter.errors import nearest


class SeedScores(NamedTuple):
    """What one seed of a variant gave, or the mean of the seeds of one data set."""

    ap: Mapping[str, float]
    """AP, AP50 and AP75, in [0, 1]"""
    by_class: Mapping[str, float]
    """AP of every class; nan of one without objects"""
    resampled: Mapping[str, np.ndarray]
    """AP, AP50 and AP75, each [B] over B resamples of the images, the same for all variants"""
    costs: Mapping[str, float | None]
    """own_ratio and term_ratio (scatter within to between classes, of the detector's own vectors
    and of those that the term reads), step_seconds, memory_mib; None where not known"""
    validation: str = ""
    """fingerprint of the data it was measured on"""


class VariantScores(NamedTuple):
    """A variant by the name that a person knows it by."""

    name: str
    seeds: Mapping[Any, SeedScores]
    """by unit: a seed, or the value by which data sets are told apart"""


class Failure(NamedTuple):
    """A run that failed, once at least."""

    variant: str
    unit: Any  # its seed, or its data set
    run: str  # its folder
    reason: str
    finished: bool  # when it was tried again


class Pair(NamedTuple):
    """What two variants have over each other; differences are `second` minus `first`."""

    first: str
    second: str
    seeds: list[Any]  # the units that both have
    differences: Mapping[str, PairedDifference]  # by the names in COMPARED
    images: tuple[float, float]  # 95 % interval of the AP difference over resampled images
    images_by_seed: Mapping[Any, tuple[float, float]]


class Comparison(NamedTuple):
    """Variants and their pairs, those with the baseline first."""

    classes: list[str]
    variants: list[VariantScores]
    baseline: str
    units: str  # what they are, in words
    images: int | None  # that all units were measured on; None if each has its own
    equivalence: float | None  # the difference that is none, in [0, 1]
    pairs: list[Pair]
    verdicts: list[Verdict]  # of the first pairs, those with the baseline
    failures: list[Failure]

    def sentence(self, number: int) -> str:
        """What is said of the pair of this number."""
        pair, chance = self.pairs[number], f"over {len(self.pairs[number].seeds)} {self.units}"
        if self.images is not None:
            chance += f" and {self.images} images"
        names, ap = f"{pair.second} against {pair.first}", pair.differences["AP"]
        if number < len(self.verdicts):
            return f"{names}: {self.verdicts[number].text(pair.differences, chance)}"
        size = f"AP {points(ap.mean)} points, 95 % interval {interval_text(ap.joint)} {chance}"
        return f"{names}, without a verdict: {size}"


def compare(
    variants: Sequence[VariantScores],
    classes: Sequence[str],
    images: int | None,
    baseline: str | None = None,
    equivalence: float | None = None,
    failures: Sequence[Failure] = (),
    units: str = "seeds",
) -> Comparison:
    """Every variant against the baseline, with a verdict, and the others with one another.

    Pairs that share fewer than two units are left out.

    Args:
        images: how many validation images there are, the same for all units; None where every unit
            is a data set with images of its own, whose differences have the images in them.
        baseline: the name of a variant, or the first one.
        equivalence: say "no effect" where a difference is surely smaller; in [0, 1].
        failures: where two variants differ in how many units failed, the verdict is withheld.
        units: what they are, in words.

    Raises:
        ValueError: if no variant is called `baseline`.
    """
    by_name = {variant.name: variant for variant in variants}
    name = variants[0].name if baseline is None else baseline
    if name not in by_name:
        raise ValueError(f"no variant is called {name}; {nearest(name, by_name)}")
    others = [variant for variant in variants if variant.name != name]
    first = [_pair(by_name[name], other, images) for other in others]
    with_baseline = [pair for pair in first if pair]
    rest = [_pair(*two, images) for two in combinations(others, 2)]
    failed = {variant.name: failed_units(failures, variant.name) for variant in variants}
    withheld = [_unequal(failed[pair.first], failed[pair.second]) for pair in with_baseline]
    judged = verdicts(
        [pair.differences for pair in with_baseline], images, units, equivalence, withheld
    )
    pairs = [*with_baseline, *(pair for pair in rest if pair)]
    known = list(classes), list(variants), name, units, images, equivalence
    return Comparison(*known, pairs, judged, list(failures))


def _pair(first: VariantScores, second: VariantScores, images: int | None) -> Pair | None:
    units = [unit for unit in first.seeds if unit in second.seeds]
    if len(units) < 2:
        return None
    before, after = ([variant.seeds[unit] for unit in units] for variant in (first, second))
    resampled = {
        name: np.array(
            [b.resampled[name] - a.resampled[name] for a, b in zip(before, after, strict=True)]
        )
        for name in COMPARED
    }  # [n, B]
    differences = {
        name: paired_difference(
            [scores.ap[name] for scores in before],
            [scores.ap[name] for scores in after],
            0.0 if images is None else float(np.nanstd(resampled[name].mean(axis=0))),
            images,
        )
        for name in COMPARED
    }
    by_unit = [resampling_interval(x) for x in resampled["AP"]]
    over_images = resampling_interval(resampled["AP"].mean(axis=0))
    by_seed = dict(zip(units, by_unit, strict=True))
    return Pair(first.name, second.name, units, differences, over_images, by_seed)


def failed_units(failures: Sequence[Failure], variant: str) -> set[Any]:
    """Those of which no run was left in the end."""
    return {f.unit for f in failures if f.variant == variant and not f.finished}


def _unequal(first: set[Any], second: set[Any]) -> tuple[int, int] | None:
    """How many units failed of each, if not equally many."""
    return None if len(first) == len(second) else (len(first), len(second))
