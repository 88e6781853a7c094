"""A training step and its memory: torchvision's SSD300 and others, beside detcenter's.

    python benchmarks/whole_steps.py [--model ssd300 fasterrcnn ...] [--json FILE]

In bfloat16, medians of alternating repeats; images and targets are on the device. --small is for
trying it out.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from around_the_model import measured
from fixed_parts import targets_of
from recording import Record
from timing import device
from torch import nn
from torchvision.models import get_model_builder

from detcenter import attach, fast

# Builder, classes, images, pixels; and the same to try it out.
MODELS = {
    "ssd300": (("ssd300_vgg16", 91, 32, 300), ("ssdlite320_mobilenet_v3_large", 5, 2, 320)),
    "fasterrcnn": (
        ("fasterrcnn_resnet50_fpn", 91, 8, 640),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 5, 1, 128),
    ),
    "retinanet": (("retinanet_resnet50_fpn", 91, 8, 640), ("retinanet_resnet50_fpn", 5, 1, 64)),
    "fcos": (("fcos_resnet50_fpn", 91, 8, 640), ("fcos_resnet50_fpn", 5, 1, 64)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    record = Record(given.json)
    for name in given.model:
        builder, classes, images, size = MODELS[name][given.small]
        plain = get_model_builder(builder)(weights=None, weights_backbone=None, num_classes=classes)
        arms = _arms(plain.to(device()))
        generator = torch.Generator().manual_seed(0)
        pixels = [
            torch.rand(3, size, size, generator=generator).to(device()) for _ in range(images)
        ]
        batch = pixels, targets_of(images, classes, size, device())
        steps = {arm: _step(model, batch) for arm, model in arms.items()}
        what = f"{builder}, {images} images, step"
        measured(record, what, steps, 1 if given.small else given.repeats)
        if torch.cuda.is_available():
            for arm, step in steps.items():
                record.add(what, arm, memory_mib=_memory(step))


def _arms(plain: nn.Module) -> dict[str, nn.Module]:
    own: Literal["box", "cell"] = "box" if hasattr(plain, "roi_heads") else "cell"
    embedding = fast(attach(copy.deepcopy(plain), features="embedding"))
    last: Any = copy.deepcopy(embedding).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return {
        "torchvision": plain,
        "detcenter, no term": fast(copy.deepcopy(plain)),
        "detcenter, own vectors": fast(attach(copy.deepcopy(plain), features=own)),
        "detcenter, embedding": embedding,
        "and channels last": last,
    }


def _step(model: nn.Module, batch: Any) -> Callable[[], None]:
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)

    def step() -> None:
        with torch.autocast(device().type, torch.bfloat16):
            losses = model(*batch)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _memory(step: Callable[[], None]) -> float:
    """Above what is there before, the models of all arms."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


if __name__ == "__main__":
    main()
