"""What recipes say, as rows of text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from detcenter.report.runs import ReportedRun


def recipe_rows(runs: Sequence[ReportedRun]) -> list[tuple[str, list[str], bool]]:
    """Key, its value in every run, and whether these differ; those that do come first."""
    keys = dict.fromkeys(key for run in runs for key in run.recipe)
    rows = []
    for key in keys:
        values = [_value(run.recipe, key) for run in runs]
        rows.append((key, values, len(set(values)) > 1))
    return sorted(rows, key=lambda row: not row[2])


def _value(recipe: Mapping[str, Any], key: str) -> str:
    if key not in recipe:
        return "–"
    value = recipe[key]
    return value if isinstance(value, str) else json.dumps(value)
