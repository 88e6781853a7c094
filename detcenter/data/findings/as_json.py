"""Findings as programs read them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detcenter.data.findings.found import Finding, Part, Shown


def findings_json(findings: Sequence[Finding], parts: Sequence[Part]) -> list[dict[str, Any]]:
    """JSON values, with the path of every image and the boxes that are meant.

    A number that is not finite, which JSON does not have, is null.
    """
    by_name = {part.name: part for part in parts}
    return [
        {
            "kind": finding.kind,
            "severity": finding.severity,
            "what": finding.what,
            "parts": list(finding.parts),
            "count": finding.total,
            "examples": [
                {"text": text, "images": [_image(by_name, place) for place in shown]}
                for text, shown in finding.examples
            ],
        }
        for finding in findings
    ]


def _image(parts: Mapping[str, Part], place: Shown) -> dict[str, Any]:
    part = parts[place.part]
    annotation = part.annotations[place.image]
    return {
        "part": place.part,
        "path": str(annotation["path"]),
        "image_id": annotation["image_id"],
        "boxes": [
            {
                "number": number,
                "class": part.classes[annotation["labels"][number] - 1],
                "xyxy": [
                    x if np.isfinite(x) else None for x in annotation["boxes"][number].tolist()
                ],
            }
            for number in place.boxes
        ],
    }


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None
