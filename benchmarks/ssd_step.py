"""SSD300's training step by torchvision and by detcenter.fast, with and without the center term.

    python benchmarks/ssd_step.py [--batch 4] [--repeats 9] [--amp] [--json FILE]

Three rows: a whole step of ``--batch`` images; matching, losses and their gradients, of 32 images
and 91 classes; matching alone. "attached" has the term on an embedding but is not fast, "attached
and fast" is what attach makes. The arms take turns; the figures are medians. In the second row the
attached ones compute the term from given feature maps.
"""

import argparse
import copy
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from timing import device, medians
from torch import Tensor
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from detcenter import attach, fast
from detcenter.batched.ssd_matching import matches
from detcenter.models.cells import positive_cells

CLASSES, SIDE, IMAGES = 91, 300, 32
SIDES, WIDTHS = (38, 19, 10, 5, 3, 1), (512, 1024, 512, 256, 256, 256)  # of the feature maps
Step = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=32 if torch.cuda.is_available() else 4)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--amp", action="store_true", help="the step in bfloat16")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arms = _arms()
    parts = {
        f"step of {arguments.batch}": lambda: _steps(arms, arguments.batch, arguments.amp),
        f"matching and losses of {IMAGES}": lambda: _losses(arms),
        f"matching of {IMAGES}": lambda: _matching(arms),
    }
    rows: dict[str, dict[str, float]] = {}
    print(_machine())
    print(f"{'':28}" + "".join(f"{arm:>18}" for arm in arms) + f"{'fast is sooner':>18}")
    for name, prepared in parts.items():
        rows[name] = medians(prepared(), arguments.repeats)
        times = "".join(f"{1e3 * rows[name][arm]:15.1f} ms" for arm in rows[name])
        ratio = rows[name]["torchvision"] / rows[name]["fast"]
        print(f"{name:28}{times:72}{ratio:17.1f}x", flush=True)
        if arguments.json:
            text = {"machine": _machine(), "bfloat16": arguments.amp, "seconds": rows}
            arguments.json.write_text(json.dumps(text, indent=1) + "\n")


def _machine() -> str:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"{name or platform.machine()}, {torch.get_num_threads()} threads, {versions}"


def _arms() -> dict[str, Any]:
    torch.manual_seed(0)
    plain = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES).to(device())
    attached = attach(copy.deepcopy(plain))
    return {
        "torchvision": plain,
        "fast": fast(copy.deepcopy(plain)),
        "attached": fast(copy.deepcopy(attached), False),
        "attached and fast": attached,
    }


def _targets(images: int) -> list[dict[str, Tensor]]:
    """About seven objects an image."""
    generator = torch.Generator().manual_seed(0)
    targets = []
    for _ in range(images):
        count = int(torch.randint(1, 14, (1,), generator=generator))
        low = 200 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat([low, low + 20 + 80 * torch.rand(count, 2, generator=generator)], 1)
        labels = torch.randint(1, CLASSES, (count,), generator=generator)
        targets.append({"boxes": boxes.to(device()), "labels": labels.to(device())})
    return targets


def _steps(arms: dict[str, Any], images: int, amp: bool) -> dict[str, Step]:
    batch = [torch.rand(3, SIDE, SIDE, device=device()) for _ in range(images)], _targets(images)
    return {arm: _step(model.train(), batch, amp) for arm, model in arms.items()}


def _step(model: Any, batch: Any, amp: bool) -> Step:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-6, momentum=0.9)

    def step() -> None:
        with torch.autocast(device().type, torch.bfloat16, enabled=amp):
            losses = model(*batch)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _anchors(model: Any) -> list[Tensor]:
    images = ImageList(torch.zeros(IMAGES, 3, SIDE, SIDE, device=device()), [(SIDE, SIDE)] * IMAGES)
    maps = [torch.zeros(IMAGES, 1, side, side, device=device()) for side in SIDES]
    found: list[Tensor] = model.anchor_generator(images, maps)
    return found


def _matcher(arm: str, model: Any) -> Callable[[], list[Tensor]]:
    boxes, anchors = [target["boxes"] for target in _targets(IMAGES)], _anchors(model)
    if "fast" in arm:
        return lambda: list(matches(boxes, anchors, model.proposal_matcher.high_threshold))
    pairs = list(zip(boxes, anchors, strict=True))
    return lambda: [model.proposal_matcher(box_iou(b, a)) for b, a in pairs]


def _matching(arms: dict[str, Any]) -> dict[str, Step]:
    return {arm: _matcher(arm, model) for arm, model in arms.items() if "attached" not in arm}


def _losses(arms: dict[str, Any]) -> dict[str, Step]:
    maps = [
        torch.randn(IMAGES, width, side, side, device=device(), requires_grad=True)
        for width, side in zip(WIDTHS, SIDES, strict=True)
    ]
    return {arm: _loss(arm, model.train(), maps) for arm, model in arms.items()}


def _loss(arm: str, model: Any, maps: list[Tensor]) -> Step:
    targets, anchors, match = _targets(IMAGES), _anchors(model), _matcher(arm, model)
    shape = IMAGES, len(anchors[0])
    logits, codes = (
        torch.randn(*shape, width, device=device(), requires_grad=True) for width in (CLASSES, 4)
    )
    outputs = {"cls_logits": logits, "bbox_regression": codes}
    per_cell = model.anchor_generator.num_anchors_per_location()

    def step() -> None:
        matched = match()
        losses = model.compute_loss(targets, outputs, anchors, matched)
        if "attached" in arm:
            positives = positive_cells(maps, per_cell, targets, anchors, matched)
            losses |= model.box_terms(positives)
        sum(losses.values()).backward()
        for x in (logits, codes, *maps):
            x.grad = None

    return step


if __name__ == "__main__":
    main()
