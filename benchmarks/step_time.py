"""What detcenter.fast gives and the center term costs: seconds a training step and an inference.

    python benchmarks/step_time.py [--repeats 15] [--models ssd300_vgg16 ...] [--json FILE]

The arms take turns, so that what else the machine does falls on all of them; the figures are
medians. "own" is the term on the detector's own vectors, fast as "embedding" is.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from timing import device, heading, medians, written
from torch import nn
from torchvision.models.detection import FasterRCNN

from detcenter import attach, fast
from detcenter.models import build_model

MODELS: dict[str, dict[str, Any]] = {
    "ssd300_vgg16": {"name": "ssd300_vgg16", "num_classes": 21},
    "ssdlite320": {"name": "ssdlite320_mobilenet_v3_large", "num_classes": 21},
    "fasterrcnn_mobilenet_v2": {
        "name": "fasterrcnn",
        "num_classes": 7,
        "backbone": "mobilenet_v2",
        "frozen_batch_norm": True,
        "trainable_backbone_layers": 3,
        "strides": [8, 16],
        "anchor_scales": [[0.06, 0.08], [0.1, 0.14]],
    },
    "ssd_mobilenet_v2": {
        "name": "ssd",
        "num_classes": 7,
        "backbone": "mobilenet_v2",
        "frozen_batch_norm": True,
        "trainable_backbone_layers": 3,
        "strides": [8, 16],
        "anchor_scales": [[0.055, 0.075], [0.1]],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(heading())
    print(f"{'model':23} {'arm':12} {'train step':>11} {'against fast':>14} {'inference':>10}")
    for name in arguments.models:
        arms = _arms(build_model(**MODELS[name]).to(device()))
        batch = _batch(arguments.batch, MODELS[name]["num_classes"])
        training = medians(
            {arm: _training_step(model, batch) for arm, model in arms.items()}, arguments.repeats
        )
        inference = medians(
            {arm: _inference(model, batch) for arm, model in arms.items()}, arguments.repeats
        )
        for arm in arms:
            added = training[arm] / training["fast"] - 1
            print(
                f"{name:23} {arm:12} {training[arm]:9.4f} s {added:13.1%} {inference[arm]:8.4f} s"
            )
            times = {"training_s": training[arm], "inference_s": inference[arm]}
            rows.append({"model": name, "arm": arm, "batch": arguments.batch} | times)
        written(arguments.json, rows)


def _arms(plain: nn.Module) -> dict[str, nn.Module]:
    own: Literal["box", "cell"] = "box" if isinstance(plain, FasterRCNN) else "cell"
    return {
        "torchvision": plain,
        "fast": fast(copy.deepcopy(plain)),
        "own": fast(attach(copy.deepcopy(plain), weight=0.3, features=own)),
        "embedding": fast(attach(copy.deepcopy(plain), weight=0.3, features="embedding")),
    }


def _batch(size: int, num_classes: int) -> tuple[list[Any], list[Any]]:
    """Noise with eight objects an image, of sizes that anchors of all levels match."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 320, 320, generator=generator).to(device()) for _ in range(size)]
    sides = torch.tensor([20.0, 25.0, 30.0, 50.0, 80.0, 120.0, 160.0, 200.0])
    corners = torch.rand(size, 8, 2, generator=generator) * (319 - sides[:, None])
    labels = torch.randint(1, num_classes, (size, 8), generator=generator)
    boxes = torch.cat([corners, corners + sides[:, None]], dim=2)
    targets = [
        {"boxes": b.to(device()), "labels": y.to(device())}
        for b, y in zip(boxes, labels, strict=True)
    ]
    return images, targets


def _training_step(model: nn.Module, batch: tuple[list[Any], list[Any]]) -> Callable[[], None]:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)

    def step() -> None:
        model.train()
        sum(model(*batch).values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _inference(model: nn.Module, batch: tuple[list[Any], list[Any]]) -> Callable[[], None]:
    @torch.inference_mode()
    def step() -> None:
        model.eval()
        model(batch[0])

    return step


if __name__ == "__main__":
    main()
