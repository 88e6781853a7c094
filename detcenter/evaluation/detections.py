"""Detections as NumPy arrays, of one image in memory and of many in a file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from detcenter.evaluation.many import ManyDetections, one_after_the_other
from detcenter.whole_file import whole_file


class Detections(NamedTuple):
    """What a detector found in one image.

    boxes: float64 [N, 4] xyxy in pixels; scores: float64 [N]; labels: int64 [N] from 1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, detection: Mapping[str, Any]) -> "Detections":
        """Raises ValueError for lengths that differ and for the background label 0."""
        boxes = as_array(detection["boxes"], torch.float64).reshape(-1, 4)
        scores = as_array(detection["scores"], torch.float64)
        labels = as_array(detection["labels"], torch.int64)
        if not len(boxes) == len(scores) == len(labels):
            raise ValueError(
                f"{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels in one image"
            )
        if (labels < 1).any():
            raise ValueError("detections must have labels from 1 on: 0 is background")
        return cls(boxes, scores, labels)


class Accumulated(NamedTuple):
    """What COCO's numbers are means of; -1 where there is no ground truth.

    T IoU thresholds from 0.5 to 0.95, R = 101 recalls from 0 to 1, K classes, A = 4 areas (all,
    small, medium, large), M = 3 numbers of detections kept of an image and class (1, 10, and as
    many as count for all other numbers).
    """

    precision: np.ndarray  # float64 [T, R, K, A, M], the best at that recall or beyond it
    recall: np.ndarray  # float64 [T, K, A, M], the highest that is reached
    scores: np.ndarray  # float64 [T, R, K, A, M], of the detection that reaches the recall


def limits(max_detections: int) -> list[int]:
    """Of detections of an image and class: COCO's evaluation takes each number once, in order."""
    return sorted({1, 10, max_detections})


def accumulated(
    results: Mapping[str, Any], kept: Sequence[int], max_detections: int
) -> Accumulated:
    """What COCO's evaluation accumulated for the limits `kept`, at 1, 10 and `max_detections`."""
    order = [kept.index(number) for number in (1, 10, max_detections)]
    return Accumulated(*(results[name][..., order] for name in Accumulated._fields))


# More than COCO's largest, so that it ignores the object, but with the ordinary IoU and for one
# detection: what is difficult. Unlike a flag, of which COCO's code reads `iscrowd` only.
IGNORED_AREA = 1e12


def places(annotations: Sequence[Mapping[str, Any]]) -> list[int]:
    """The place of each image, from 0, in the order of the ids: COCO's among equal scores.

    Ids are integers, or text as in some exports; then their order is that of text.

    Raises:
        ValueError: if two images share one.
    """
    ids = [annotation["image_id"] for annotation in annotations]
    if len(set(ids)) < len(ids):
        twice = next(i for n, i in enumerate(ids) if i in ids[:n])
        raise ValueError(f"image_id {twice} appears more than once")
    in_order = sorted(ids, key=str) if any(isinstance(i, str) for i in ids) else sorted(ids)
    place = {image_id: number for number, image_id in enumerate(in_order)}
    return [place[image_id] for image_id in ids]


def check_lengths(annotations: Sequence[Any], detections: Sequence[Any]) -> None:
    """Raises ValueError if they are not of equally many images."""
    if len(annotations) != len(detections):
        raise ValueError(f"{len(annotations)} annotations, but {len(detections)} detections")


def xywh(of_image: Mapping[str, Any]) -> np.ndarray:
    """The boxes of an annotation or detection as float64 [N, 4] of x, y, width and height.

    What comes from a file of COCO's has them in `bbox` as they stand there: by way of the corners
    they might differ in the last bit, and an IoU might miss a threshold that it reaches exactly.
    """
    if "bbox" in of_image:
        return np.asarray(of_image["bbox"], dtype=np.float64).reshape(-1, 4)
    xyxy = as_array(of_image["boxes"], torch.float64).reshape(-1, 4)
    return np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])


def save_detections(
    path: Path, annotations: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]
) -> None:
    """Ground truth and detections of the same images in one ``.npz`` file, without pickles."""
    arrays: dict[str, Any] = {
        "image_ids": np.array([annotation["image_id"] for annotation in annotations]),
        "names": np.array([annotation["path"].name for annotation in annotations]),
        "truth_counts": np.array([len(annotation["labels"]) for annotation in annotations]),
        "found_counts": np.array([len(detection["labels"]) for detection in detections]),
    }
    for key, kind in _TRUTH.items():
        arrays[f"truth_{key}"] = _joined((a[key] for a in annotations), kind, key)
    for key in Detections._fields:
        # A detector gives float32; more would only be zeros.
        parts = (getattr(Detections.of(detection), key) for detection in detections)
        arrays[f"found_{key}"] = _joined(parts, "i4" if key == "labels" else "f4", key)
    save_arrays(path, arrays)


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], compressed: bool = True) -> None:
    """Whole or not at all, if the process is killed meanwhile.

    Features hardly shrink when they are compressed, and take many times as long to read.
    """
    save: Any = np.savez_compressed if compressed else np.savez
    with whole_file(path) as file:
        save(file, **arrays)


def load_detections(path: Path) -> tuple[list[dict[str, Any]], ManyDetections]:
    """What :func:`save_detections` wrote: ``annotations`` and ``detections`` of equal length.

    Of an annotation's ``path`` only the name is known.
    """
    with np.load(path) as arrays:
        truth = {key: _split(arrays, "truth", key) for key in _TRUTH}
        columns = {key: arrays[f"found_{key}"] for key in Detections._fields}
        found = ManyDetections(columns, arrays["found_counts"])
        ids, names = arrays["image_ids"].tolist(), arrays["names"].tolist()
    annotations = [
        {"image_id": image_id, "path": Path(name)} | boxes
        for image_id, name, boxes in zip(ids, names, _rows(truth), strict=True)
    ]
    return annotations, found


_TRUTH = {"boxes": "f8", "labels": "i4", "iscrowd": "?", "difficult": "?", "area": "f8"}


def _joined(parts: Iterable[np.ndarray], kind: str, key: str) -> np.ndarray:
    shape = (0, 4) if key == "boxes" else (0,)
    rows = ([np.asarray(part, kind).reshape(-1, *shape[1:])] for part in parts)
    return one_after_the_other(rows, [np.zeros(shape, kind)])[0]


def _split(arrays: Mapping[str, np.ndarray], of: str, key: str) -> list[np.ndarray]:
    return np.split(arrays[f"{of}_{key}"], np.cumsum(arrays[f"{of}_counts"])[:-1])


def _rows(columns: Mapping[str, list[np.ndarray]]) -> Iterator[dict[str, Any]]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def as_array(values: Any, dtype: torch.dtype) -> np.ndarray:
    """Of a tensor on any device, an array or a list."""
    # By way of torch, because NumPy has no bfloat16, which mixed precision may hand us.
    return torch.as_tensor(values).detach().to("cpu", dtype).numpy()
