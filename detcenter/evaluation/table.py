"""Metrics as a plain-text table for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detcenter.evaluation.confusion import most_confused

_ROWS = (
    ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    ("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
ERROR_MEANINGS = {
    "cls": "another class",
    "loc": "its box is off",
    "both": "another class, and its box is off",
    "dupe": "found before",
    "bkg": "nothing there",
    "miss": "not found",
}


def results_table(metrics: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The twelve COCO numbers, the two VOC means, and AP class by class, as aligned text.

    `metrics` is what `evaluate_detections` returns; nan is shown as "–".
    """
    coco = [cells for keys in _ROWS for cells in (("", *keys), ("", *_numbers(metrics, keys)))]
    coco[0] = ("COCO", *_ROWS[0])
    voc_keys = ("mAP_07", "mAP_12")
    voc = [("VOC", *voc_keys), ("", *_numbers(metrics, voc_keys))]
    by_class = [("class", "AP", "AP50 (VOC 2012)")] + [
        (name, _number(metrics["AP_by_class"][name]), _number(metrics["AP_12_by_class"][name]))
        for name in classes
    ]
    return "\n\n".join(aligned(rows) for rows in (coco, voc, by_class))


def errors_table(errors: Mapping[str, Mapping[str, Any]]) -> str:
    """What `error_split` returns, as aligned text."""
    rows = [("error", "", "count", "dAP50")]
    rows += [
        (kind, ERROR_MEANINGS[kind], str(found["count"]), _number(found["dAP"]))
        for kind, found in errors.items()
    ]
    return aligned(rows, left=2) + "\n(detections with any score)"


def confusion_table(confusion: Mapping[str, Any], top: int = 10) -> str:
    """The classes that are most often taken for others, as aligned text.

    `confusion` is that of `evaluate_detections`.
    """
    score, (*classes, _) = confusion["score"], confusion["labels"]
    pairs = most_confused(np.array(confusion["matrix"]), classes, top)
    if not pairs:
        return f"at scores of {score:g} and more no class is taken for another"
    rows = [("class", "taken for", "times", "of its objects")]
    rows += [(true, other, str(count), f"{part:.1%}") for true, other, count, part in pairs]
    return aligned(rows, left=2) + f"\n(detections with a score of {score:g} and more)"


def _numbers(metrics: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(_number(metrics[key]) for key in keys)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """The first ``left`` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths, left) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int], left: int) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row[:left], widths[:left], strict=True)]
    cells += [cell.rjust(width) for cell, width in zip(row[left:], widths[left:], strict=True)]
    return "  ".join(cells).rstrip()
