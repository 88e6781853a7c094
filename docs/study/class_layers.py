"""Weights and times of the SSDs of leads 2 and 3: medians of seven rounds, one thread, bfloat16.

python docs/study/class_layers.py

"product" is the script's of lead 2, in float32; "vectors" the same layers as the package has them.
"""

import statistics
import time
from typing import Any

import torch
from prototypes import with_prototypes

from detcenter import attach, fast, set_box_vectors
from detcenter.models import build_model


def main() -> None:
    torch.set_num_threads(1)
    models = {name: _made(name) for name in ("plain", "softmax", "cosine", "product", "vectors")}
    images = [*torch.rand(8, 3, 160, 160)]
    boxes = torch.tensor([[10.0, 10, 40, 50], [60, 60, 90, 110]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in images]
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(7):
        for name, model in models.items():
            start = time.process_time()
            _step(model.train(), images, targets)
            middle = time.process_time()
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                model.eval()(images)
            seconds[name].append((middle - start, time.process_time() - middle))
    for name, model in models.items():
        step, inference = (1000 * statistics.median(x) for x in zip(*seconds[name], strict=True))
        print(
            f"{name:8} {_weights(model)}, a step of 8 images {step:.0f} ms, inference "
            f"{inference:.0f} ms"
        )

    large = build_model("ssd300_vgg16", 91, weights_backbone=None)
    print(f"SSD300 of 91 classes: {_weights(large)}; vectors: {_weights(set_box_vectors(large))}")


def _weights(model: Any) -> str:
    of_all, of_classes = (
        sum(p.numel() for p in part.parameters())
        for part in (model, model.head.classification_head)
    )
    return f"{of_all:,} weights ({of_classes:,} of class layers)"


def _made(name: str) -> Any:
    model = build_model(
        "ssd",
        11,
        backbone="resnet18",
        image_size=160,
        strides=[8, 16],
        top_stride=16,
        out_channels=96,
        anchor_scales=[[0.16, 0.23], [0.33]],
        aspect_ratios=[0.45, 0.8],
        score_thresh=0.3,
    )
    if name == "softmax":
        return attach(model, weight=0)
    if name == "vectors":
        return set_box_vectors(fast(model))
    kinds = {"cosine": "learnt", "product": "linear"}
    return with_prototypes(fast(model), kinds[name], 0) if name in kinds else fast(model)


def _step(model: Any, images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, [dict(target) for target in targets])
    sum(losses.values()).backward()


if __name__ == "__main__":
    main()
