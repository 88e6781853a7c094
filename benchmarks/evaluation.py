"""How long COCO's numbers take by pycocotools and by hotcoco, and how far they differ.

    python benchmarks/evaluation.py [--images 5000] [--detections 100] [--repeats 3]

Images of ten objects in 80 classes. Part of the detections are objects moved a little, some under
another class; the others are anywhere. The backends take turns, so that what else the machine does
falls on both; the figures are medians, from arrays in memory to numbers. The third is all that
`detcenter evaluate` measures, by hotcoco.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from timing import medians

from detcenter.evaluation import coco_metrics, evaluate_detections
from detcenter.evaluation.coco import COCO_KEYS, Backend

_CLASSES = [f"class {k}" for k in range(1, 81)]
_OBJECTS = 10  # in an image
_BACKENDS: tuple[Backend, ...] = ("pycocotools", "hotcoco")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    annotations = [_annotation(rng, image_id) for image_id in range(arguments.images)]
    detections = [_detections(rng, truth, arguments.detections) for truth in annotations]
    metrics: dict[str, dict[str, Any]] = {}

    def measure(backend: Backend) -> None:
        metrics[backend] = coco_metrics(annotations, detections, _CLASSES, backend)

    def measure_all() -> None:
        metrics["all numbers"] = evaluate_detections(annotations, detections, _CLASSES, "hotcoco")

    arms: dict[str, Callable[[], None]] = {name: partial(measure, name) for name in _BACKENDS}
    arms["all numbers"] = measure_all
    found = medians(arms, arguments.repeats)
    print(f"{arguments.images} images, {arguments.detections} detections each")
    for backend, median in found.items():
        times = found["pycocotools"] / median
        print(f"{backend:12} {median:8.2f} s {times:7.1f}x   AP {metrics[backend]['AP']:.4f}")
    apart = max(abs(metrics["pycocotools"][key] - metrics["hotcoco"][key]) for key in COCO_KEYS)
    print(f"the twelve numbers differ by at most {apart:.1e}")


def _annotation(rng: np.random.Generator, image_id: int) -> dict[str, Any]:
    corners, sides = rng.uniform(0, 400, (_OBJECTS, 2)), rng.uniform(8, 240, (_OBJECTS, 2))
    return {
        "image_id": image_id,
        "boxes": np.hstack([corners, corners + sides]),
        "labels": rng.integers(1, len(_CLASSES) + 1, _OBJECTS),
        "area": sides.prod(axis=1),
        "iscrowd": rng.random(_OBJECTS) < 0.01,
        "difficult": np.zeros(_OBJECTS, dtype=bool),
    }


def _detections(rng: np.random.Generator, truth: dict[str, Any], count: int) -> dict[str, Any]:
    of = rng.integers(0, _OBJECTS, count)
    moved = truth["boxes"][of] + rng.normal(0, 8, (count, 4))
    corners = rng.uniform(0, 400, (count, 2))
    anywhere = np.hstack([corners, corners + rng.uniform(8, 240, (count, 2))])
    labels = rng.integers(1, len(_CLASSES) + 1, count)
    near, named = rng.random((2, count)) < [[0.3], [0.8]]
    boxes = np.where(near[:, None], moved, anywhere)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return {
        "boxes": boxes,
        "scores": rng.random(count) * np.where(near, 1, 0.5),
        "labels": np.where(near & named, truth["labels"][of], labels),
    }


if __name__ == "__main__":
    main()
