"""An exported detector beside the model: whether it finds the same, and how long it takes.

    python benchmarks/export.py [--repeats 9] [--models ssd300_vgg16 ...]
    python benchmarks/export.py --checkpoint runs/digits/best.pth --images data/digits/JPEGImages

Without a checkpoint the models are new, with classifiers whose scores are far apart, and the
images noise. The arms take turns on one image after the other; the figures are medians, in
milliseconds. All have the same number of threads, OMP_NUM_THREADS or as many as there are cores.
"""

import argparse
import copy
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from timing import heading, medians, written
from torch import Tensor, nn

import detcenter
from detcenter import export_onnx, fast
from detcenter.data import files_at, frames_of, resized, sources
from detcenter.models import build_model, family_of
from detcenter.runs.passes import input_size, size_within

_SIDES = {"min_size": 320, "max_size": 320}
MODELS: dict[str, dict[str, Any]] = {
    "ssd300_vgg16": {},
    "retinanet_resnet50_fpn": _SIDES,
    "fcos_resnet50_fpn": _SIDES,
    "fasterrcnn_mobilenet_v3_large_320_fpn": _SIDES,
    "fasterrcnn_resnet50_fpn": _SIDES,
}
CLASSES = 21
Found = dict[str, np.ndarray]
_KEY = np.array([1.0, 7.3, 31.1, 97.7])  # which orders boxes somehow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=[])
    parser.add_argument("--checkpoint", nargs="*", default=[], help=".pth files of runs")
    parser.add_argument("--images", nargs="*", default=[], help="what they detect in")
    parser.add_argument("--count", type=int, default=8, help="images at most")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    names = arguments.models or ([] if arguments.checkpoint else MODELS)
    made: dict[str, Callable[[], Any]] = {name: partial(_new, name) for name in names}
    made |= {x: partial(detcenter.load, x, "cpu") for x in arguments.checkpoint}
    rows: list[dict[str, Any]] = []
    print(heading(), f"onnxruntime {onnxruntime.__version__}")
    columns = " MiB   boxes  same   by pixels  by scores   torchvision     fast  onnxruntime"
    print(f"{'model':38}  {columns}")
    for name, make in made.items():
        rows.append(_row(name, make(), arguments))
        line = "{model:38} {mib:5.0f} {boxes:7} {same:>5} {px:11.1e} {score:10.1e} "
        line += "{torchvision:13.1f} {fast:8.1f} {onnxruntime:12.1f}"
        print(line.format(**rows[-1]), flush=True)
        written(arguments.json, rows)


def _row(name: str, model: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    images = _images(model, arguments.images, arguments.count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        height, width = images[0].shape[1:]
        export_onnx(model, path, (height, width))
        mib = path.stat().st_size / 2**20
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    arms = {
        "torchvision": partial(_by_model, fast(copy.deepcopy(model), False)),
        "fast": partial(_by_model, fast(copy.deepcopy(model))),
        "onnxruntime": partial(_by_file, session),
    }
    found = [(arms["torchvision"](image), arms["onnxruntime"](image)) for image in images]
    turns: dict[str, Callable[[], None]] = {
        arm: partial(_next, detect, iter(images * 10_000)) for arm, detect in arms.items()
    }
    times = medians(turns, arguments.repeats)
    return (
        {"model": name[-38:], "mib": mib}
        | _compared(found)
        | {arm: 1e3 * t for arm, t in times.items()}
    )


def _compared(found: Sequence[tuple[Found, Found]]) -> dict[str, Any]:
    """In how many images labels and their order are the same, and by how much boxes and scores
    differ there at most. Of scores that are equal to float rounding either may come first.
    """
    pairs = [(a, b) for a, b in found if len(a["labels"]) == len(b["labels"])]
    pairs = [_ordered(a, b) for a, b in pairs]
    same = [(a, b) for a, b in pairs if np.array_equal(a["labels"], b["labels"])]
    apart = {
        key: max(float(np.abs(a[key] - b[key]).max(initial=0)) for a, b in same) if same else 0.0
        for key in ("boxes", "scores")
    }
    return {
        "boxes": sum(len(a["labels"]) for a, _ in found),
        "same": f"{len(same)}/{len(found)}",
        "px": apart["boxes"],
        "score": apart["scores"],
    }


def _ordered(a: Found, b: Found) -> tuple[Found, Found]:
    """Those of equal scores by label and box."""
    tie = np.cumsum(np.diff(a["scores"], prepend=1) < -2e-6)
    first, second = (
        {k: x[np.lexsort((of["boxes"] @ _KEY, of["labels"], tie))] for k, x in of.items()}
        for of in (a, b)
    )
    return first, second


def _new(name: str) -> nn.Module:
    """With logits that are spread out: of scores that are equal any may come first."""
    torch.manual_seed(0)
    model: Any = build_model(name, CLASSES, weights_backbone=None, **MODELS[name]).eval()
    layers: list[Any] = family_of(model).classifiers(model)
    if hasattr(model, "rpn"):
        layers = [model.rpn.head.cls_logits, *layers]
    for layer in layers:  # in the order in which they run
        seen: list[Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, made, seen=seen: seen.append(made))
        _by_model(model, torch.stack(_images(model, [], 1))[0])
        hook.remove()
        with torch.no_grad():
            layer.weight *= 2 / (torch.cat([x.flatten() for x in seen]).std() + 1e-9)
    return model


def _images(model: Any, named: Sequence[str], count: int) -> list[Tensor]:
    """uint8 [3, H, W], of the model's size; those of the first one's, where it keeps shapes."""
    size = input_size(model)
    if not named:
        drawn = torch.Generator().manual_seed(0)
        sides = size_within(320, 320, size)
        return [
            torch.randint(0, 256, (3, *sides), dtype=torch.uint8, generator=drawn)
            for _ in range(count)
        ]
    files = [file for name in named for file in files_at(Path(name))]
    images = []
    for source in sources(files[:count]):
        _, image = next(frames_of(source))
        small = resized(image, size_within(image.shape[1], image.shape[0], size))
        images.append(torch.from_numpy(small.transpose(2, 0, 1).copy()))
    return [image for image in images if image.shape == images[0].shape]


def _by_model(model: nn.Module, image: Tensor) -> Found:
    with torch.inference_mode():
        (found,) = model([image.float() / 255])
    shown = found["labels"] > 0
    return {name: values[shown].numpy() for name, values in found.items()}


def _by_file(session: Any, image: Tensor) -> Found:
    shape = session.get_inputs()[0].shape[2:]
    batch = np.zeros((1, 3, *shape), np.uint8)
    batch[0, :, : image.shape[1], : image.shape[2]] = image
    given = {"images": batch}
    if len(session.get_inputs()) > 1:
        given["sizes"] = np.array([image.shape[1:]])
    boxes, scores, labels = (x[0] for x in session.run(None, given))
    shown = labels > 0
    return {"boxes": boxes[shown], "scores": scores[shown], "labels": labels[shown]}


def _next(detect: Callable[[Tensor], Any], images: Any) -> None:
    detect(next(images))


if __name__ == "__main__":
    main()
