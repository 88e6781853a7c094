"""How much memory `detcenter evaluate` takes for a large data set.

    python benchmarks/evaluation_memory.py [--images 5000 100000] [--backend hotcoco] [--json FILE]

Made-up images with up to 10 objects of 80 classes, and up to 100 detections. Each case is a
process of its own. Printed are the gigabytes that the detections take as arrays, the highest
resident memory while they are collected and while all numbers are computed, each on top of what was
there before (torch, the annotations), seconds, AP to the last bit, and a hash of all numbers.
`--lists` keeps detections as a list of dictionaries, as torchvision's detectors give them.
"""

import argparse
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import Record

from detcenter.data.annotations import Annotations
from detcenter.evaluation import evaluate_detections, metrics_json

_CLASSES = [f"class {k}" for k in range(1, 81)]
_OBJECTS, _DETECTIONS = 10, 100  # the most in an image
_GB = 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 100_000])
    parser.add_argument("--backend", default="hotcoco")
    parser.add_argument("--lists", action="store_true", help="detections as a list of dictionaries")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--case", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        _case(arguments.images[0], arguments.backend, arguments.lists)
        return
    record = Record(arguments.json)
    for images in arguments.images:
        command = [sys.executable, __file__, "--case", "--images", str(images)]
        command += ["--backend", arguments.backend, *(["--lists"] if arguments.lists else [])]
        rows = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        values = dict(row.split("=") for row in rows)
        numbers = {name: float(x) for name, x in values.items() if name not in ("AP", "sha256")}
        held = "lists" if arguments.lists else "arrays"
        what = f"{images} images, {arguments.backend}"
        record.add(what, held, **numbers, AP=values["AP"], sha256=values["sha256"])


def _case(images: int, backend: Any, lists: bool) -> None:
    """One case; prints its numbers."""
    annotations = Annotations([_annotation(i) for i in range(images)])
    before = _start()
    found: Any = [*_detections(annotations)] if lists else _collected(_detections(annotations))
    print(f"collecting_gb={_highest() - before:.3f}")
    count = sum(len(of_image["labels"]) for of_image in found)
    print(f"arrays_gb={count * (4 * 4 + 4 + 8) / _GB:.3f}")
    before, start = _start(), time.monotonic()
    metrics = evaluate_detections(annotations, found, _CLASSES, backend)
    digest = hashlib.sha256(metrics_json(metrics).encode()).hexdigest()[:12]
    print(f"numbers_gb={_highest() - before:.3f} seconds={time.monotonic() - start:.1f}")
    print(f"AP={metrics['AP']!r} sha256={digest}")


def _collected(detections: Iterator[dict[str, torch.Tensor]]) -> Any:
    from detcenter.evaluation.many import ManyDetections

    return ManyDetections.of(detections)


def _start() -> float:
    """Forget the highest memory so far; returns gigabytes of now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _highest() -> float:
    return _status("VmHWM")


def _status(name: str) -> float:
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(row.split()[1]) for row in rows if row.startswith(name)) / _GB


def _annotation(number: int) -> Any:
    rng = np.random.default_rng(number)
    count = rng.integers(0, _OBJECTS + 1)
    corners, sides = rng.uniform(0, 400, (count, 2)), rng.uniform(8, 240, (count, 2))
    return {
        "image_id": number,
        "path": Path(f"{number}.jpg"),
        "width": 640,
        "height": 640,
        "boxes": np.hstack([corners, corners + sides]),
        "labels": rng.integers(1, len(_CLASSES) + 1, count),
        "area": sides.prod(axis=1),
        "iscrowd": rng.random(count) < 0.01,
        "difficult": rng.random(count) < 0.01,
    }


def _detections(annotations: Annotations) -> Iterator[dict[str, torch.Tensor]]:
    """Image by image: some objects moved a little, some under another class, and boxes anywhere."""
    rng = np.random.default_rng(0)
    for truth in annotations:
        count = rng.integers(0, _DETECTIONS + 1)
        corners = rng.uniform(0, 400, (count, 2))
        boxes = np.hstack([corners, corners + rng.uniform(8, 240, (count, 2))])
        labels = rng.integers(1, len(_CLASSES) + 1, count)
        scores = rng.random(count)
        if len(truth["labels"]):
            of = rng.integers(0, len(truth["labels"]), count)
            near, named = rng.random((2, count)) < [[0.2], [0.8]]
            moved = truth["boxes"][of] + rng.normal(0, 8, (count, 4))
            boxes = np.where(near[:, None], moved, boxes)
            labels = np.where(near & named, truth["labels"][of], labels)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        yield {
            "boxes": torch.from_numpy(boxes).float(),
            "scores": torch.from_numpy(scores).float(),
            "labels": torch.from_numpy(labels),
        }


if __name__ == "__main__":
    main()
