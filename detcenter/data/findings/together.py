"""All findings of a data set."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from detcenter.data.findings.boxes import box_findings
from detcenter.data.findings.classes import class_findings, name_findings
from detcenter.data.findings.copies import copy_findings, near_copy_findings
from detcenter.data.findings.found import Finding, Part
from detcenter.data.findings.pictures import light_findings, size_findings
from detcenter.data.findings.units import unit_findings

_ORDER = ("fault", "warning", "remark")


def all_findings(
    parts: Sequence[Part],
    near: bool,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[Finding]:
    """The worst first; each kind once a part.

    Args:
        near: whether to look for near copies too, see `near_copy_findings`.
        progress: wraps the images while they are compared.
    """
    found: list[Finding | None] = []
    for part in parts:
        units = [*unit_findings(part)]
        found += units or box_findings(part)  # a wrong unit makes every box wrong: one cause
        found += [*size_findings(part), *light_findings(part), *class_findings(part)]
    found += [*name_findings(parts), *copy_findings(parts)]
    if near:
        found += near_copy_findings(parts, progress)
    return sorted((f for f in found if f is not None), key=lambda f: _ORDER.index(f.severity))
