"""The boxes behind the cells of a confusion matrix."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.evaluation import confusions
from detcenter.report.crops import CropSheet

_MOST = 24  # crops of a cell


class _Case(NamedTuple):
    row: int
    column: int
    score: float  # nan of what was not found
    image: int
    box: np.ndarray


def crops_of_cells(
    runs: Sequence[Sequence[Mapping[str, Any]]],
    annotations: Sequence[Mapping[str, Any]],
    num_classes: int,
    score: float,
    sheet: CropSheet,
    iou: float = 0.5,
) -> list[dict[str, list[Any]]]:
    """For every run's detections, by "row-column" of its matrix, [tile, image, score] of its cases.

    The surest first, and no more than 24 a cell. If ``sheet`` is too small for all, every wrong
    cell has its first case before another has its second, and what is right comes last.
    """
    cells = [_by_cell(_cases(annotations, found, num_classes, score, iou)) for found in runs]
    queue = [
        (case.row == case.column, rank, run, case)
        for run, by_cell in enumerate(cells)
        for cases in by_cell.values()
        for rank, case in enumerate(cases[:_MOST])
    ]
    crops: list[dict[str, list[Any]]] = [{} for _ in runs]
    for _, _, run, case in sorted(queue, key=lambda entry: entry[:3]):
        tile = sheet.register(case.image, case.box)
        if tile is not None:
            known = None if math.isnan(case.score) else round(case.score, 3)
            shown = crops[run].setdefault(f"{case.row}-{case.column}", [])
            shown.append([tile, case.image, known])
    return crops


def _cases(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    num_classes: int,
    score: float,
    iou: float,
) -> list[_Case]:
    cases = []
    for image, pair in enumerate(zip(annotations, detections, strict=True)):
        of_image = confusions(*pair, iou, score)
        # Label 0, background, is the last row and column.
        rows, columns = ((labels - 1) % (num_classes + 1) for labels in of_image[:2])
        for row, column, box, sure in zip(
            rows.tolist(), columns.tolist(), of_image.boxes, of_image.scores.tolist(), strict=True
        ):
            cases.append(_Case(row, column, sure, image, box))
    return cases


def _by_cell(cases: Sequence[_Case]) -> dict[tuple[int, int], list[_Case]]:
    cells: dict[tuple[int, int], list[_Case]] = {}
    for case in sorted(cases, key=lambda case: -np.nan_to_num(case.score)):
        cells.setdefault((case.row, case.column), []).append(case)
    return cells
