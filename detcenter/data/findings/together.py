"""All findings of a data set."""

from collections.abc import Iterable, Sequence

from detcenter.data.findings.boxes import box_findings
from detcenter.data.findings.classes import class_findings, name_findings
from detcenter.data.findings.copies import Place, copy_findings, near_copy_findings
from detcenter.data.findings.found import Finding, Part
from detcenter.data.findings.pictures import light_findings, size_findings
from detcenter.data.findings.units import unit_findings

_ORDER = ("fault", "warning", "remark")


def all_findings(parts: Sequence[Part], near: Iterable[tuple[Place, Place]] = ()) -> list[Finding]:
    """The worst first; each kind once a part.

    Args:
        near: pairs of nearly equal images, those of `near_copies`.
    """
    found: list[Finding | None] = []
    for part in parts:
        units = [*unit_findings(part)]
        found += units or box_findings(part)  # a wrong unit makes every box wrong: one cause
        found += [*size_findings(part), *light_findings(part), *class_findings(part)]
    found += [*name_findings(parts), *copy_findings(parts), *near_copy_findings(parts, near)]
    return sorted((f for f in found if f is not None), key=lambda f: _ORDER.index(f.severity))
