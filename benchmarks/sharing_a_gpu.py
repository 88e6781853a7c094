"""Steps a second of several small trainings at once, on one GPU: with NVIDIA's MPS and without.

    python benchmarks/sharing_a_gpu.py [1 16 ...] [--seconds 8]

A Faster R-CNN on MobileNetV3 with center loss on its own vectors, 8 images of 320 pixels in
bfloat16; the batch is on the device already. Each training is a process of one thread. Start MPS
before, or not: docs/training.md says how.
"""

import argparse
import time
from typing import Any

import torch
from fixed_parts import targets_of
from timing import device
from torch.multiprocessing import get_context
from torchvision.models import get_model_builder

from detcenter import attach, fast

_IMAGES, _SIZE, _WARM_UP = 8, 320, 5
_PATIENCE = 60.0  # seconds for a process to start and warm up


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trainings", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    context = get_context("fork")  # nothing has touched the device yet
    for number in given.trainings:
        rates = context.Queue()
        processes = [
            context.Process(target=_train, args=(given.seconds, rates), daemon=True)
            for _ in range(number)
        ]
        for process in processes:
            process.start()
        found = [rates.get(timeout=_PATIENCE + given.seconds) for _ in processes]
        print(f"{number:3} at once: {sum(found):6.1f} steps a second in all", flush=True)
        for process in processes:
            process.join()


def _train(seconds: float, rates: Any) -> None:
    torch.set_num_threads(1)
    builder = get_model_builder("fasterrcnn_mobilenet_v3_large_320_fpn")
    few = {"rpn_batch_size_per_image": 64, "box_batch_size_per_image": 64}
    plain = builder(weights=None, weights_backbone=None, num_classes=7, **few)
    model = fast(attach(plain, features="box")).to(device()).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    images = [torch.rand(3, _SIZE, _SIZE, device=device()) for _ in range(_IMAGES)]
    targets = targets_of(_IMAGES, 7, _SIZE, device())

    def step() -> None:
        with torch.autocast(device().type, torch.bfloat16):
            losses = model(images, targets)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(_WARM_UP):
        step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    rates.put(steps / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
