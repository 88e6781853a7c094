"""The page's tables, as rows of text."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detcenter.report.runs import Comparison, ReportedRun

_COLUMNS = {  # of a comparison: heading, digits, scale
    "AP": ("AP", 3, 1),
    "AP50": ("AP50", 3, 1),
    "AP75": ("AP75", 3, 1),
    "own_ratio": ("own ratio", 3, 1),
    "term_ratio": ("term ratio", 3, 1),
    "step_seconds": ("ms a step", 0, 1000),
    "memory_mib": ("MiB", 0, 1),
}


def recipe_rows(runs: Sequence[ReportedRun]) -> list[tuple[str, list[str], bool]]:
    """Key, its value in every run, and whether these differ; those that do come first."""
    keys = dict.fromkeys(key for run in runs for key in run.recipe)
    rows = []
    for key in keys:
        values = [_value(run.recipe, key) for run in runs]
        rows.append((key, values, len(set(values)) > 1))
    return sorted(rows, key=lambda row: not row[2])


def comparison_tables(comparison: Comparison) -> dict[str, Any]:
    """`columns` and `variants` (each with `name`, `seeds`, `cells` and AP `by_class`), `classes`,
    `sentences` and `folder`.
    """
    variants, pairs = comparison.values["variants"], comparison.values["pairs"]
    return {
        "columns": [heading for heading, _, _ in _COLUMNS.values()],
        "variants": [
            {
                "name": variant["name"],
                "seeds": len(variant["seeds"]),
                "cells": list(_cells(variant)),
                "by_class": {
                    name: _mean_and_spread(x, 3, 1) for name, x in variant["AP_by_class"].items()
                },
            }
            for variant in variants
        ],
        "classes": list(variants[0]["AP_by_class"]),
        "sentences": [pair["sentence"] for pair in pairs],
        "folder": comparison.folder,
    }


def _cells(variant: Mapping[str, Any]) -> Iterator[str]:
    for key, (_, digits, scale) in _COLUMNS.items():
        yield _mean_and_spread(variant[key], digits, scale)


def _mean_and_spread(summary: Mapping[str, Any] | None, digits: int, scale: float) -> str:
    if summary is None or summary["mean"] is None:
        return "–"
    mean = f"{scale * summary['mean']:.{digits}f}"
    return mean if summary["std"] is None else f"{mean} ±{scale * summary['std']:.{digits}f}"


def _value(recipe: Mapping[str, Any], key: str) -> str:
    if key not in recipe:
        return "–"
    value = recipe[key]
    return value if isinstance(value, str) else json.dumps(value)
