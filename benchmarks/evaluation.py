"""How long COCO's numbers take by several packages, and how far they are from pycocotools'.

    python benchmarks/evaluation.py [--images 5000] [--detections 100] [--repeats 3] [--json FILE]

Images of ten objects in 80 classes. Part of the detections are objects moved a little, some under
another class; the others are anywhere. The packages take turns, so that what else the machine does
falls on all of them; the figures are medians, from arrays in memory to COCO's precision, recall and
scores, the whole arrays of which are compared. pycocotools and hotcoco are called as `detcenter
evaluate` does. The others are no dependencies; those that are missing are named:
pip install faster-coco-eval ultrafast-pycocotools. The last row is all that `detcenter evaluate`
measures, by hotcoco.
"""

import argparse
import contextlib
import io
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from timing import heading, medians, written

from detcenter.evaluation import evaluate_detections, fast, pycoco
from detcenter.evaluation.detections import Accumulated, accumulated, limits

_CLASSES = [f"class {k}" for k in range(1, 81)]
_OBJECTS = 10  # in an image
_REFERENCE = "pycocotools"
_MOST = 100  # detections of an image and class
Accumulate = Callable[[list[Any], list[Any], list[str]], Accumulated]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    annotations = [_annotation(rng, image_id) for image_id in range(arguments.images)]
    detections = [_detections(rng, truth, arguments.detections) for truth in annotations]
    case, found = (annotations, detections, _CLASSES), dict[str, Accumulated]()

    def measure(package: str, accumulate: Accumulate) -> None:
        found[package] = accumulate(*case)

    def measure_all() -> None:
        evaluate_detections(*case, "hotcoco")

    packages = _packages()
    arms = {name: partial(measure, name, accumulate) for name, accumulate in packages.items()}
    print(heading())
    print(f"{arguments.images} images, {arguments.detections} detections each")
    times = medians(arms | {"all numbers": measure_all}, arguments.repeats)
    rows = [_row(name, seconds, times, found) for name, seconds in times.items()]
    for row in rows:
        apart = "" if row["apart"] is None else f"  apart at most {row['apart']:.1e}"
        print(f"{row['by']:29} {row['seconds']:8.2f} s {row['times']:7.1f}x{apart}")
    sizes = {"images": arguments.images, "detections": arguments.detections}
    written(arguments.json, [sizes | row for row in rows])


def _packages() -> dict[str, Accumulate]:
    """By name, those that are installed."""
    packages: dict[str, Accumulate] = {_REFERENCE: pycoco.accumulate}
    others: dict[str, Accumulate] = {
        "faster-coco-eval": partial(_drop_in, "faster_coco_eval", "COCOeval_faster"),
        "hotcoco": fast.accumulate,
        "ultrafast-pycocotools": partial(_drop_in, "ultrafast_pycocotools", "COCOeval"),
    }
    for name, accumulate in others.items():
        try:
            import_module(name.replace("-", "_"))
        except ImportError:
            print(f"{name} is missing, and is left out: pip install {name}")
        else:
            packages[name] = accumulate
    return packages


def _drop_in(
    module: str, evaluator: str, annotations: list[Any], detections: list[Any], classes: list[str]
) -> Accumulated:
    """By a package with pycocotools' own interface."""
    package = import_module(module)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = package.COCO(pycoco._ground_truth(annotations, classes))
        rows = fast._predictions(annotations, detections, range(1, len(classes) + 1))
        found = truth.loadRes(rows)
        evaluation = getattr(package, evaluator)(truth, found, "bbox")
        evaluation.params.maxDets = kept = limits(_MOST)
        evaluation.evaluate()
        evaluation.accumulate()
    return accumulated(evaluation.eval, kept, _MOST)


def _row(
    name: str, seconds: float, times: dict[str, float], found: dict[str, Accumulated]
) -> dict[str, Any]:
    row = {"by": name, "seconds": seconds, "times": times[_REFERENCE] / seconds, "apart": None}
    if name not in found:
        return row
    apart = [np.abs(a - b).max() for a, b in zip(found[name], found[_REFERENCE], strict=True)]
    return row | {"by": f"{name} {version(name)}", "apart": float(max(apart))}


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
