"""Detections in one image after another, into files that are valid after each: JSON, COCO, YOLO."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from detcenter.evaluation.detections import Detections, xywh
from detcenter.evaluation.results import coco_results


class Prediction(NamedTuple):
    """What was found in one image, or in one frame of a file."""

    file: Path
    name: str
    """of the file's results, without an ending; with sub-folders, if it lies in such"""
    frame: int | None
    """from 0; None in a file with one image"""
    image: np.ndarray
    """uint8 RGB [H, W, 3]"""
    detection: dict[str, Tensor]
    """`boxes` [N, 4] xyxy in pixels of `image`, `scores` [N] and `labels` [N] from 1; if unknown
    objects are looked for, `unknown_scores` [N], and `taught_labels` [N] of what is marked so"""

    @property
    def stem(self) -> str:
        """The name of this image's own results: `clip_000007` of frame 7 of `clip`."""
        return self.name if self.frame is None else f"{self.name}_{self.frame:06d}"


Write = Callable[[Prediction], None]

_COLUMNS = ("boxes", "labels", "scores", "unknown_scores", "taught_labels")


@contextmanager
def json_file(folder: Path, classes: Sequence[str]) -> Iterator[Write]:
    """``detections.json``: for every image its file, frame and detections."""
    with _json_list(folder / "detections.json") as add:

        def write(found: Prediction) -> None:
            frame = {} if found.frame is None else {"frame": found.frame}
            rows = _named(found.detection, classes)
            add({"file": str(found.file)} | frame | {"detections": rows})

        yield write


@contextmanager
def coco_files(folder: Path, classes: Sequence[str]) -> Iterator[Write]:
    """``predictions.coco.json``, a result file, and ``images.coco.json`` with what it refers to.

    Images are numbered from 1 in their order, categories from 1 in the order of `classes`.
    """
    ids = range(1, len(classes) + 1)
    categories = [{"id": k, "name": name} for k, name in zip(ids, classes, strict=True)]
    rest = f',\n"annotations": [],\n"categories": {json.dumps(categories)}}}'
    with (
        _json_list(folder / "images.coco.json", '{"images": [', f"]{rest}") as add_image,
        _json_list(folder / "predictions.coco.json") as add,
    ):
        count = 0

        def write(found: Prediction) -> None:
            nonlocal count
            count += 1
            height, width = found.image.shape[:2]
            frame = {} if found.frame is None else {"frame": found.frame}
            image = {"id": count, "file_name": str(found.file), "width": width, "height": height}
            add_image(image | frame)
            for row in coco_results([{"image_id": count}], [found.detection], ids):
                add(row)

        yield write


@contextmanager
def yolo_files(folder: Path, classes: Sequence[str]) -> Iterator[Write]:
    """``labels/NAME.txt`` for every image, and ``classes.txt`` with a name a line.

    A line a detection: class from 0, centre x and y, width and height as parts of the image's,
    score. Without detections the file is empty.
    """
    (folder / "classes.txt").write_text("".join(f"{_one_line(name)}\n" for name in classes))

    def write(found: Prediction) -> None:
        path = folder / "labels" / f"{found.stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(_yolo_lines(found)))

    yield write


FORMATS: Mapping[str, Callable[[Path, Sequence[str]], AbstractContextManager[Write]]] = {
    "json": json_file,
    "coco": coco_files,
    "yolo": yolo_files,
}


def _named(detection: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    columns = {key: detection[key].tolist() for key in _COLUMNS if key in detection}
    return [
        _row(dict(zip(columns, values, strict=True)), classes)
        for values in zip(*columns.values(), strict=True)
    ]


def _row(of: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    label, taught = of["labels"], of.get("taught_labels", of["labels"])
    row = {"class": classes[label - 1], "label": label, "score": of["scores"], "box": of["boxes"]}
    if "unknown_scores" in of:
        row["unknown_score"] = of["unknown_scores"]
    if taught != label:
        row["looks_like"] = classes[taught - 1]
    return row


def _yolo_lines(found: Prediction) -> Iterator[str]:
    height, width = found.image.shape[:2]
    _, scores, labels = Detections.of(found.detection)
    boxes = xywh(found.detection) / [width, height, width, height]
    boxes[:, :2] += boxes[:, 2:] / 2
    for box, score, label in zip(boxes.clip(0, 1), scores, labels, strict=True):
        numbers = " ".join(f"{x:.6f}" for x in (*box, score))
        yield f"{label - 1} {numbers}\n"


def _one_line(name: str) -> str:
    return " ".join(name.split())


@contextmanager
def _json_list(path: Path, head: str = "[", tail: str = "]") -> Iterator[Callable[[Any], None]]:
    """Gives a function that adds to the list, which is closed in the file after every entry."""
    with path.open("w+b") as file:
        file.write(head.encode())
        end, between = file.tell(), "\n"
        file.write(tail.encode())
        file.flush()

        def add(entry: Any) -> None:
            nonlocal end, between
            text = between + indent(json.dumps(entry, indent=2), "  ")
            file.seek(end)
            file.write(f"{text}\n{tail}".encode())
            file.flush()
            end, between = end + len(text.encode()), ",\n"

        yield add
