"""Metrics as a plain-text table for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_ROWS = (
    ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    ("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)


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
