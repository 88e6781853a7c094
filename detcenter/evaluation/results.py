"""COCO result files, of any framework: a JSON list with an object a detection."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import numpy as np

from detcenter.evaluation.detections import Detections, xywh


def coco_results(
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    category_ids: Sequence[int | str],
) -> list[dict[str, Any]]:
    """Detections in COCO's result format, ready for `json.dump`.

    Label k becomes `category_ids[k - 1]`; `bbox` is [x, y, width, height] in pixels.
    """
    rows = []
    for annotation, detection in zip(annotations, detections, strict=True):
        found, image_id = Detections.of(detection), annotation["image_id"]
        for box, score, label in zip(
            xywh(detection).tolist(), found.scores, found.labels, strict=True
        ):
            rows.append(
                {
                    "image_id": image_id if isinstance(image_id, str) else int(image_id),
                    "category_id": category_ids[label - 1],
                    "bbox": box,
                    "score": float(score),
                }
            )
    return rows


def load_results(
    path: Path, image_ids: Sequence[int | str], category_ids: Sequence[int | str]
) -> list[dict[str, Any]]:
    """The detections in a COCO result file, one mapping for each of `image_ids`.

    The reverse of `coco_results`: category `category_ids[k - 1]` becomes label k.

    Raises:
        ValueError: one line that names the entry (the first is 1) and what is wrong with it.
        OSError: the file cannot be read.
    """
    rows_of: dict[int | str, list[Any]] = {image_id: [] for image_id in image_ids}
    labels = {category_id: k for k, category_id in enumerate(category_ids, start=1)}
    for number, row in enumerate(_entries(path), start=1):
        wrong = _wrong_entry(row, rows_of, labels)
        if wrong is not None:
            raise ValueError(f"{path}: detection {number} {wrong}")
        rows_of[row["image_id"]].append((*row["bbox"], row["score"], labels[row["category_id"]]))
    return [_detections(rows) for rows in rows_of.values()]


def _entries(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path}: not readable as JSON ({why})") from None
    if not isinstance(content, list):
        raise ValueError(f"{path}: not a list of detections; is it a COCO result file?")
    return content


def _wrong_entry(row: Any, image_ids: Collection[Any], category_ids: Collection[Any]) -> str | None:
    if not isinstance(row, dict):
        return f"is not an object but {shortened(row)}"
    for key in ("image_id", "category_id", "bbox", "score"):
        if key not in row:
            return f"has no '{key}'"
    for key, known in (("image_id", image_ids), ("category_id", category_ids)):
        if type(row[key]) not in (int, float, str) or row[key] not in known:
            return f"has the {key} {shortened(row[key])}, which the annotations do not have"
    box, score = row["bbox"], row["score"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"has the bbox {shortened(box)}, not four numbers"
    if min(box[2:]) < 0:
        return f"has the bbox {shortened(box)}: the last two are width and height"
    return None if _is_number(score) else f"has the score {shortened(score)}, not a number"


def _is_number(value: Any) -> bool:
    """Neither nan nor infinite, nor an integer beyond every float, all of which JSON may hold."""
    return type(value) in (int, float) and -1e30 < value < 1e30


def _detections(rows: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    numbers = np.array(rows, dtype=np.float64).reshape(-1, 6)
    corners, sides = numbers[:, :2], numbers[:, 2:4]
    return {
        "boxes": np.hstack([corners, corners + sides]),
        "bbox": numbers[:, :4],  # as in the file, for COCO's numbers
        "scores": numbers[:, 4],
        "labels": numbers[:, 5].astype(np.int64),
    }
