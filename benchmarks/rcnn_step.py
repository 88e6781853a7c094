"""What `fast` and the center term make of a training step and an inference of R-CNNs and others.

    python benchmarks/rcnn_step.py [--models fasterrcnn_small ...] [--json results.json]

The arms take turns, so that what else the machine does falls on all of them; the figures are
medians. "own" is the term on the detector's own vectors. On a GPU steps run in bfloat16. With
--json what is measured so far is written after each model.
"""

import argparse
import copy
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from timing import device, medians
from torch import nn
from torchvision.models import detection

from detcenter import attach, fast

CLASSES = 91
MODELS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    # For a CPU: with few proposals, as its head alone would take seconds.
    "fasterrcnn_small": (
        partial(detection.fasterrcnn_mobilenet_v3_large_320_fpn, box_batch_size_per_image=64),
        320,
    ),
    "fasterrcnn_resnet50": (detection.fasterrcnn_resnet50_fpn, 640),
    "retinanet_resnet50": (detection.retinanet_resnet50_fpn, 640),
    "fcos_resnet50": (detection.fcos_resnet50_fpn, 640),
}
SHARES_OF_SIDE = [0.06, 0.08, 0.1, 0.15, 0.25, 0.4, 0.5, 0.6]  # of eight objects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--size", type=int, help="pixels of a side, of all models")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    results: dict[str, Any] = {
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "batch": arguments.batch,
        "seconds": {},
    }
    print(", ".join(f"{key} {value}" for key, value in results.items() if key != "seconds"))
    print(f"{'model':21} {'arm':15} {'training step':>14} {'':8} {'inference':>11}")
    for name in arguments.models:
        results["seconds"][name] = _measured(name, arguments)
        _print(name, results["seconds"][name])
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def _measured(name: str, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    build, size = MODELS[name]
    size = arguments.size or size
    options = {"num_classes": CLASSES, "min_size": size, "max_size": size}
    torch.manual_seed(0)
    arms = _arms(build(weights=None, weights_backbone=None, **options).to(device()))
    batch = _batch(arguments.batch, size)
    return {
        kind: medians({arm: step(model, *batch) for arm, model in arms.items()}, arguments.repeats)
        for kind, step in (("training", _training_step), ("inference", _inference))
    }


def _arms(plain: nn.Module) -> dict[str, nn.Module]:
    own: Any = "box" if isinstance(plain, detection.FasterRCNN) else "cell"
    attached = {
        "own": attach(copy.deepcopy(plain), features=own),
        "embedding": attach(copy.deepcopy(plain), features="embedding"),
    }
    arms = {"torchvision": plain, **attached}
    return arms | {
        {"torchvision": "fast"}.get(arm, f"fast, {arm}"): fast(copy.deepcopy(model))
        for arm, model in arms.items()
    }


def _batch(images: int, size: int) -> tuple[list[Any], list[Any]]:
    """Noise with eight objects an image."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor(SHARES_OF_SIDE).unsqueeze(1) * size
    found = []
    for _ in range(images):
        corners = torch.rand(len(sides), 2, generator=generator) * (size - 1 - sides)
        labels = torch.randint(1, CLASSES, (len(sides),), generator=generator)
        boxes = torch.cat([corners, corners + sides], 1)
        found.append({"boxes": boxes.to(device()), "labels": labels.to(device())})
    pixels = torch.rand(images, 3, size, size, generator=generator).to(device())
    return list(pixels), found


def _training_step(model: nn.Module, images: list[Any], targets: list[Any]) -> Callable[[], None]:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)

    def step() -> None:
        model.train()
        with _precision():
            losses = model(images, targets)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _inference(model: nn.Module, images: list[Any], _: list[Any]) -> Callable[[], None]:
    @torch.inference_mode()
    def step() -> None:
        model.eval()
        with _precision():
            model(images)

    return step


def _precision() -> AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.bfloat16) if torch.cuda.is_available() else nullcontext()


def _print(name: str, seconds: dict[str, dict[str, float]]) -> None:
    training, inference = seconds["training"], seconds["inference"]
    for arm, value in training.items():
        added = value / training["torchvision"] - 1
        print(
            f"{name:21} {arm:15} {value:12.4f} s {added:+8.1%} {inference[arm]:9.4f} s", flush=True
        )


if __name__ == "__main__":
    main()
