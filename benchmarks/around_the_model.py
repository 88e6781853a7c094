"""What an SSD300 does around its network: matching, losses and post-processing; and center loss.

    python benchmarks/around_the_model.py [--part post-processing losses center] [--json FILE]

Milliseconds and waits for the device (see detcenter/waits.py), torchvision beside detcenter, the
arms in turns, medians. --small is for trying it out.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fixed_parts import detector, outputs_of, targets_of, with_fixed_parts
from recording import Record
from timing import device, medians

from detcenter import CenterLoss, attach, fast
from detcenter.waits import counted_waits

PARTS = ("post-processing", "losses", "center")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    record = Record(given.json)
    images = 1 if given.small else 32
    repeats = 1 if given.small else given.repeats
    if "post-processing" in given.part:
        for classes in (3,) if given.small else (21, 91):
            model = detector(classes, given.small)
            _post_processing(record, model, images, classes, max(1, repeats // 3))
    if "losses" in given.part:
        classes = 3 if given.small else 91
        _losses(record, detector(classes, given.small), images, classes, repeats)
    if "center" in given.part:
        for boxes in (256,) if given.small else (256, 1024, 4096):
            for classes in (21,) if given.small else (21, 91, 1203):
                _center(record, boxes, classes, 2 * repeats)


def measured(record: Record, what: str, arms: dict[str, Callable[[], Any]], repeats: int) -> None:
    times = medians(arms, repeats)
    for arm, step in arms.items():
        with counted_waits() as waits:
            step()
        counted = waits.total if torch.cuda.is_available() else None
        record.add(what, arm, ms=1000 * times[arm], waits=counted)


def _post_processing(record: Record, model: Any, images: int, classes: int, repeats: int) -> None:
    maps, head, batch = outputs_of(model, images, device())
    anchors = model.anchor_generator(batch, list(maps.values()))
    models = {"torchvision": model, "detcenter": fast(copy.deepcopy(model))}
    found: dict[str, Any] = {}

    def arm(name: str, model: Any) -> Callable[[], None]:
        @torch.inference_mode()
        def step() -> None:
            given = dict(head)  # which torchvision's takes entries out of
            found[name] = model.postprocess_detections(given, anchors, batch.image_sizes)

        return step

    what = f"post-processing, {images} images, {classes} classes"
    measured(record, what, {name: arm(name, m) for name, m in models.items()}, repeats)
    same = all(
        len(a["scores"]) == len(b["scores"]) and torch.equal(a["scores"], b["scores"])
        for a, b in zip(*found.values(), strict=True)
    )
    record.add(what, "detcenter", scores="equal" if same else "DIFFERENT")


def _losses(record: Record, model: Any, images: int, classes: int, repeats: int) -> None:
    parts = outputs_of(model, images, device())
    targets = targets_of(images, classes, 300, device())
    models = {
        "torchvision": model,
        "detcenter": fast(copy.deepcopy(model)),
        "detcenter, own vectors": fast(attach(copy.deepcopy(model), features="cell")),
        "detcenter, embedding": fast(attach(copy.deepcopy(model))),
    }

    def arm(model: Any) -> Callable[[], None]:
        fixed, inputs = with_fixed_parts(model, *parts)

        def step() -> None:
            losses = fixed([torch.empty(3, 300, 300)] * images, targets)
            sum(losses.values()).backward()
            for x in inputs:
                x.grad = None

        return step

    what = f"matching and loss, {images} images, {classes} classes"
    measured(record, what, {name: arm(m) for name, m in models.items()}, repeats)


def _center(record: Record, boxes: int, classes: int, repeats: int) -> None:
    loss = CenterLoss(classes, 64).to(device())
    features = torch.randn(boxes, 64, device=device(), requires_grad=True)
    labels = torch.randint(1, classes, (boxes,), device=device())

    def step() -> None:
        loss(features, labels).backward()

    measured(record, "center loss alone", {f"{boxes} boxes, {classes} classes": step}, repeats)


if __name__ == "__main__":
    main()
