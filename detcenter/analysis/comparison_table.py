"""What a comparison says, as JSON and as tables."""

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from detcenter.analysis.comparison import Comparison, VariantScores, failed_units
from detcenter.analysis.paired import COMPARED, PairedDifference, mean_and_spread
from detcenter.evaluation.table import aligned

_COSTS = ("own_ratio", "term_ratio", "step_seconds", "memory_mib")


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """All numbers as JSON values; what is not known or undefined is null."""
    return {
        "baseline": comparison.baseline,
        "units": comparison.units,
        "images": comparison.images,
        "equivalence": comparison.equivalence,
        "failures": [failure._asdict() for failure in comparison.failures],
        "variants": [_variant_json(variant, comparison) for variant in comparison.variants],
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
                "verdict": judged._asdict() if judged else None,
                "sentence": comparison.sentence(i),
            }
            for i, (pair, judged) in enumerate(zip_longest(comparison.pairs, comparison.verdicts))
        ],
        "validation": {
            str(unit): scores.validation
            for variant in comparison.variants
            for unit, scores in variant.seeds.items()
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
    first, units = values["baseline"], values["units"]
    for name in (variant["name"] for variant in variants):
        if name != first and (first, name) not in compared:
            sentences.append(f"{name} against {first}: fewer than two {units} in common")
    return [head, *map(_row, variants)], by_class, [*sentences, *_notes(values)]


def _notes(values: Mapping[str, Any]) -> list[str]:
    """What else is to be known: of the best of several, and of runs that failed."""
    notes = []
    tried = len(values["variants"]) - 1
    if tried > 1:
        fresh = "other values of --vary"
        if values["units"] == "seeds":
            used = [seed for variant in values["variants"] for seed in variant["seeds"]]
            fresh = f"fresh seeds, --train.seed {max(used) + 1}"
        notes.append(
            f"The best of {tried} looks better than it is, because chance helped to choose it: "
            f"measure it again with {fresh}"
        )
    for failure in values["failures"]:
        later = "; it finished when tried again" if failure["finished"] else ""
        notes.append(f"failed: {failure['run']}: {failure['reason']}{later}")
    return notes


def _values(variant: VariantScores, name: str) -> list[float]:
    """Of every seed, where it is known."""
    found = (s.costs[name] if name in _COSTS else s.ap[name] for s in variant.seeds.values())
    return [value for value in found if value is not None]


def _variant_json(variant: VariantScores, comparison: Comparison) -> dict[str, Any]:
    failed = sorted(failed_units(comparison.failures, variant.name), key=str)
    numbers: dict[str, Any] = {"name": variant.name, "seeds": list(variant.seeds), "failed": failed}
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
    return numbers | {"interval": interval, "joint": list(difference.joint)}


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
    whole, failed = len(variant["seeds"]), len(variant["failed"])
    seeds = f"{whole} of {whole + failed}" if failed else str(whole)
    return [variant["name"], seeds, *ap, *ratios, *costs]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _number(value: float | None, digits: str, scale: float = 1.0) -> str:
    return "–" if value is None else format(scale * value, digits)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
