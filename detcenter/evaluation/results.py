"""COCO result files, of any framework: a JSON list with an object a detection."""

import json
import re
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, TextIO

import numpy as np

from detcenter.evaluation.detections import Detections, xywh
from detcenter.evaluation.many import ManyDetections

_CHARACTERS = 1_000_000  # that are read of a file at once
_LONGEST = 10_000_000  # of an entry
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


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
) -> ManyDetections:
    """The detections in a COCO result file, one mapping for each of `image_ids`.

    The reverse of `coco_results`: category `category_ids[k - 1]` becomes label k.

    Raises:
        ValueError: one line that names the entry (the first is 1) and what is wrong with it.
        OSError: the file cannot be read.
    """
    images = {image_id: number for number, image_id in enumerate(image_ids)}
    labels = {category_id: k for k, category_id in enumerate(category_ids, start=1)}
    of_images, numbers, said = array("q"), array("d"), None
    for number, row in enumerate(_entries(path), start=1):
        wrong = said or _wrong_entry(row, images, labels)
        if wrong is not None:  # but a file that is no JSON is said to be that
            said = said or f"{path}: detection {number} {wrong}"
            continue
        of_images.append(images[row["image_id"]])
        numbers.extend((*row["bbox"], row["score"], labels[row["category_id"]]))
    if said is not None:
        raise ValueError(said)
    return _detections(np.array(of_images), np.array(numbers).reshape(-1, 6), len(image_ids))


def _entries(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _in_list(file)
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path}: not readable as JSON ({why})") from None
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from None


def _in_list(file: TextIO) -> Iterator[Any]:
    """The entries of a list in JSON, one after the other: as objects all take very much more.

    Raises:
        ValueError: it is no JSON.
        TypeError: it is no list.
    """
    text, place = _next_mark(file, "", 0)
    if text[place : place + 1] != "[":
        json.loads(text + file.read())
        raise TypeError("not a list of detections; is it a COCO result file?")
    text, place = _next_mark(file, text, place + 1)
    first = True
    while not text.startswith("]", place):
        if not first:
            if not text.startswith(",", place):
                raise json.JSONDecodeError("expecting a comma or the end", text, place)
            text, place = _next_mark(file, text, place + 1)
        entry, text, place = _entry(file, text, place)
        yield entry
        first = False
        text, place = _next_mark(file, text, place)
    if (text[place + 1 :] + file.read()).strip():
        raise ValueError("something follows the list")


def _entry(file: TextIO, text: str, place: int) -> tuple[Any, str, int]:
    """What stands at ``place``, what is read of the file, and where the entry ends in it."""
    while True:
        try:
            entry, end = _DECODER.raw_decode(text, place)
            # Else more may follow, as of a number that is cut in two.
            if text.startswith((",", "]"), _SPACE.match(text, end).end()):  # type: ignore[union-attr]
                return entry, text, end
        except json.JSONDecodeError:
            if len(text) - place > _LONGEST:
                raise
        more = file.read(_CHARACTERS)
        if not more:
            entry, end = _DECODER.raw_decode(text, place)
            return entry, text, end
        text, place = text[place:] + more, 0


def _next_mark(file: TextIO, text: str, place: int) -> tuple[str, int]:
    """What is read of the file, and where the next character stands that is no space."""
    while True:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if place < len(text):
            return text, place
        text, place = file.read(_CHARACTERS), 0
        if not text:
            return text, place


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


def _detections(of_images: np.ndarray, numbers: np.ndarray, images: int) -> ManyDetections:
    """Of numbers [N, 6] and the images that they are of, in any order."""
    order = np.argsort(of_images, kind="stable")
    bbox, scores, labels = numbers[order, :4], numbers[order, 4], numbers[order, 5]
    return ManyDetections(
        {
            "boxes": np.hstack([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]]),
            "bbox": bbox,  # as in the file, for COCO's numbers
            "scores": scores,
            "labels": labels.astype(np.int64),
        },
        np.bincount(of_images, minlength=images),
    )
