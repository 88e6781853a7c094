"""What a person would see in a data set, if there were time to look at all of it.

Every rule is a function of a part, or of all parts, with its thresholds in its docstring. None is
meant to speak of ordinary data.
"""

from detcenter.data.findings.as_json import findings_json
from detcenter.data.findings.boxes import box_findings, negative_sides
from detcenter.data.findings.classes import boxes_by_class, class_findings, name_findings
from detcenter.data.findings.copies import Place, copy_findings, near_copies, near_copy_findings
from detcenter.data.findings.found import Example, Finding, Part, Shown, in_words
from detcenter.data.findings.pictures import light_findings, size_findings
from detcenter.data.findings.together import all_findings
from detcenter.data.findings.units import unit_findings

__all__ = [
    "Example",
    "Finding",
    "Part",
    "Place",
    "Shown",
    "all_findings",
    "box_findings",
    "boxes_by_class",
    "class_findings",
    "copy_findings",
    "findings_json",
    "in_words",
    "light_findings",
    "name_findings",
    "near_copies",
    "near_copy_findings",
    "negative_sides",
    "size_findings",
    "unit_findings",
]
