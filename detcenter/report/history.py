"""What a run's `metrics.csv` has, in the order in which a person asks for it."""

import re
from collections.abc import Mapping, Sequence

_GROUPS = {
    "Losses": r"train/[^/]+",
    "Average precision": r"AP|AP50|AP75|mAP_12|AP_(rare|common|frequent)",
    "AP of classes": r"AP_by_class/.*",
    "Errors: how much AP50 each kind costs": r"errors/\w+",
    "Features: scatter within and between classes": r"train/.+/(ratio|within|between|silhouette)",
    "Rate, time and memory": r"lr|seconds|step_seconds|memory_mib",
    "Other numbers": r"(?!epoch$).*",
}


def groups_of(histories: Sequence[Sequence[Mapping[str, str]]]) -> dict[str, list[str]]:
    """The columns that hold a number in some run, by group; those without one are left out."""
    columns = dict.fromkeys(
        name
        for rows in histories
        for row in rows
        for name, value in row.items()
        if value not in ("", "nan")
    )
    groups: dict[str, list[str]] = {}
    for column in columns:
        group = next((g for g, pattern in _GROUPS.items() if re.fullmatch(pattern, column)), None)
        if group is not None:
            groups.setdefault(group, []).append(column)
    return {name: groups[name] for name in _GROUPS if name in groups}
