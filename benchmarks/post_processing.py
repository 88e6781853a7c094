"""Post-processing by torchvision and by detcenter.fast: seconds a batch, and waits for the device.

    python benchmarks/post_processing.py [--images 8] [--repeats 5] [--json FILE]
    python benchmarks/post_processing.py --checkpoint runs/digits/best.pth [...]

Of SSD300: 8,732 anchors, 400 candidates a class, 200 detections an image. "untrained" are the
scores of a new head, all classes about equally likely in every anchor; "trained" are those of
a head that is sure of its background, with few candidates. Then what grows: classes, anchors and
images. Both sides take turns; the figures are medians, and their detections are compared. Waits
are counted on a pretended device where there is none. With --checkpoint whole inferences of the
trained detector are compared and timed instead, on the validation images of its recipe.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from timing import device, heading, medians, written
from torch import Tensor
from torchvision.models import get_model

from detcenter import fast, load
from detcenter.recipe.config import config_from_dict
from detcenter.recipe.datasets import validation_set
from detcenter.runs.passes import detect_in
from detcenter.training import load_checkpoint
from detcenter.waits import counted_waits, pretended_cuda

_SIDE = 300  # pixels of an image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=[])
    arguments = parser.parse_args()
    if arguments.checkpoint:
        print(heading())
        written(
            arguments.json,
            [_of_checkpoint(path, arguments.repeats) for path in arguments.checkpoint],
        )
        return
    images = arguments.images
    cases = [("untrained", classes, 8732, images) for classes in (2, 21, 91, 365, 1203)]
    cases += [("trained", classes, 8732, images) for classes in (21, 91, 1203)]
    cases += [("untrained", 91, anchors, images) for anchors in (2_000, 24_564)]
    cases += [("untrained", 91, 8732, count) for count in (1, 4 * images)]
    print(heading())
    columns = (
        "head",
        "classes",
        "anchors",
        "images",
        "torchvision",
        "fast",
        "times",
        "waits",
        "same",
    )
    print(" ".join(f"{column:>11}" for column in columns))
    rows: list[dict[str, Any]] = []
    for case in cases:
        rows.append(_measured(*case, arguments.repeats))
        row = rows[-1]
        waits = f"{row['waits_torchvision']}/{row['waits_fast']}"
        shown = [row["head"], row["classes"], row["anchors"], row["images"]]
        shown += [f"{1e3 * row[side]:.1f} ms" for side in ("torchvision", "fast")]
        shown += [f"{row['torchvision'] / row['fast']:.1f}", waits, f"{row['same']:.1%}"]
        print(" ".join(f"{value!s:>11}" for value in shown), flush=True)
        written(arguments.json, rows)


def _measured(head: str, classes: int, anchors: int, images: int, repeats: int) -> dict[str, Any]:
    sides = dict(zip(("torchvision", "fast"), _models(), strict=True))
    given = _outputs(head, classes, anchors, images)
    seconds = medians({name: _step(model, given) for name, model in sides.items()}, repeats)
    waits, found = {}, {}
    for name, model in sides.items():
        with torch.inference_mode():
            found[name] = model.postprocess_detections(*given)
        waits[f"waits_{name}"] = _waits(model, given)
    numbers = {"head": head, "classes": classes, "anchors": anchors, "images": images}
    return numbers | seconds | waits | {"same": _same(*found.values())}


def _models() -> tuple[Any, Any]:
    """An SSD with SSD300's settings, and the same made fast; its layers do not matter here."""
    plain: Any = get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None)
    plain.score_thresh, plain.nms_thresh = 0.01, 0.45
    plain.topk_candidates, plain.detections_per_img = 400, 200
    return plain.eval().to(device()), fast(copy.deepcopy(plain).eval().to(device()))


def _outputs(head: str, classes: int, anchors: int, images: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(images, anchors, classes, generator=generator)
    logits *= 0.3 if head == "untrained" else 1.0
    if head == "trained":
        logits[..., 0] += 8 + torch.log(torch.tensor(float(classes)))
        sure = torch.rand(images, anchors, generator=generator) < 0.01
        logits[..., 1] += 10 * sure
    codes = 0.3 * torch.randn(images, anchors, 4, generator=generator)
    corners = torch.rand(anchors, 2, generator=generator) * (_SIDE - 20)
    boxes = torch.cat([corners, corners + 20 + 60 * torch.rand(anchors, 2, generator=generator)], 1)
    outputs = {"cls_logits": logits.to(device()), "bbox_regression": codes.to(device())}
    return outputs, [boxes.to(device())] * images, [(_SIDE, _SIDE)] * images


def _waits(model: Any, given: tuple[Any, ...]) -> int:
    outputs, anchors, sizes = given
    with pretended_cuda() as on, torch.no_grad():
        moved = {name: x.to(on) for name, x in outputs.items()}
        boxes = [anchors[0].to(on)] * len(anchors)
        with counted_waits() as counted:
            model.postprocess_detections(moved, boxes, sizes)
    return counted.total


def _of_checkpoint(path: Path, repeats: int) -> dict[str, Any]:
    """Whole inferences of a trained detector, by torchvision and fast."""
    recipe = config_from_dict(load_checkpoint(path)["config"])
    plain: Any = fast(load(path, device()), False)
    sides = {"torchvision": plain, "fast": fast(copy.deepcopy(plain))}
    dataset = validation_set(recipe.data, plain.classes)
    found: dict[str, Sequence[dict[str, Any]]] = {}

    def step(name: str) -> Callable[[], None]:
        def infer() -> None:
            found[name] = detect_in(dataset, sides[name], batch_size=8, workers=0)

        return infer

    seconds = medians({name: step(name) for name in sides}, repeats)
    same, count = _same(*found.values()), sum(len(x["boxes"]) for x in found["fast"])
    shown = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    print(f"{path}: {len(dataset)} images, {count} detections, {same:.2%} the same; {shown}")
    return {"checkpoint": str(path), "detections": count, "same": same} | seconds


def _step(model: Any, given: tuple[Any, ...]) -> Callable[[], None]:
    @torch.inference_mode()
    def step() -> None:
        model.postprocess_detections(*given)

    return step


def _same(expected: Sequence[dict[str, Tensor]], found: Sequence[dict[str, Tensor]]) -> float:
    """The share of detections that are equal in box, score and label, at the same place."""
    equal, total = 0, 0
    for one, other in zip(expected, found, strict=True):
        total += max(len(one["boxes"]), len(other["boxes"]))
        if len(one["boxes"]) == len(other["boxes"]):
            same = (one["boxes"] == other["boxes"]).all(1) & (one["scores"] == other["scores"])
            equal += int((same & (one["labels"] == other["labels"])).sum())
    return equal / total if total else 1.0


if __name__ == "__main__":
    main()
