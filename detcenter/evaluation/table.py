"""Metrics as a plain-text table for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detcenter.evaluation.coco import coco_keys
from detcenter.evaluation.confusion import most_confused, nothing_confused
from detcenter.evaluation.frequency import GROUPS

ERROR_MEANINGS = {
    "cls": "another class",
    "loc": "its box is off",
    "both": "another class, and its box is off",
    "dupe": "found before",
    "bkg": "nothing there",
    "miss": "not found",
}


def results_table(metrics: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The twelve COCO numbers, the two VOC means, and numbers class by class, as aligned text.

    `metrics` is what `evaluate_detections` returns; nan is shown as "–".
    """
    settings = {"max_detections": 100, "iou": 0.5} | metrics.get("settings", {})
    keys = coco_keys(settings["max_detections"])
    coco = [*_block("COCO", metrics, keys[:6]), *_block("", metrics, keys[6:])]
    groups = tuple(f"AP_{group}" for group in GROUPS)
    uneven = [_block("LVIS", metrics, groups)] if groups[0] in metrics else []
    iou = settings["iou"]
    voc = _block("VOC" if iou == 0.5 else f"VOC at IoU {iou:g}", metrics, ("mAP_07", "mAP_12"))
    tables = [coco, *uneven, voc, _by_class(metrics, classes, iou)]
    return "\n\n".join(aligned(rows) for rows in tables)


def _block(name: str, metrics: Mapping[str, Any], keys: Sequence[str]) -> list[tuple[str, ...]]:
    return [(name, *keys), ("", *_numbers(metrics, keys))]


def _by_class(
    metrics: Mapping[str, Any], classes: Sequence[str], iou: float
) -> list[tuple[str, ...]]:
    """AP, and the threshold of the best F1 with what it gives."""
    best = metrics.get("best_by_class")
    keys = ("threshold", "precision", "recall", "f1") if best else ()
    rows = [("class", "AP", f"AP{100 * iou:g} (VOC 2012)", *keys[:3], *(["F1"] if best else []))]
    for name in classes:
        ap = metrics["AP_by_class"][name], metrics["AP_12_by_class"][name]
        of_best = _numbers(best[name], keys) if best else ()
        rows.append((name, *map(_number, ap), *of_best))
    return rows


def calibration_line(calibrated: Mapping[str, Any]) -> str:
    """What `calibration` returns, in one line."""
    bins = calibrated["bins"]
    return (
        f"calibration error {_number(calibrated['error'])} ({sum(bins['count'])} detections with "
        f"a score of {bins['from'][0]:g} and more)"
    )


def errors_table(errors: Mapping[str, Mapping[str, Any]], iou: float = 0.5) -> str:
    """What `error_split` returns for that IoU, as aligned text."""
    rows = [("error", "", "count", f"dAP{100 * iou:g}")]
    rows += [
        (kind, ERROR_MEANINGS[kind], str(found["count"]), _number(found["dAP"]))
        for kind, found in errors.items()
    ]
    return aligned(rows, left=2) + "\n(detections with any score)"


def confusion_table(confusion: Mapping[str, Any], top: int = 10, iou: float = 0.5) -> str:
    """The classes that are most often taken for others, as aligned text.

    `confusion` is that of `evaluate_detections`, for that IoU.
    """
    score, (*classes, _) = confusion["score"], confusion["labels"]
    matrix = np.array(confusion["matrix"])
    pairs = most_confused(matrix, classes, top)
    if not pairs:
        return f"at scores of {score:g} and more {nothing_confused(matrix)}"
    rows = [("class", "taken for", "times", "of its objects")]
    rows += [(true, other, str(count), f"{part:.1%}") for true, other, count, part in pairs]
    at_iou = "" if iou == 0.5 else f", from IoU {iou:g} on"
    return aligned(rows, left=2) + f"\n(detections with a score of {score:g} and more{at_iou})"


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
