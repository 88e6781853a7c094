"""An exported detector beside the model: whether it finds the same, and how long it takes.

    python benchmarks/export.py [--repeats 9] [--models ssd300_vgg16 ...]
    python benchmarks/export.py --checkpoint runs/digits/best.pth --images data/digits/JPEGImages

Without a checkpoint the models are new, with classifiers whose scores are far apart, and the
images noise. The arms take turns on one image after the other; the figures are medians, in
milliseconds. All have the same number of threads, OMP_NUM_THREADS or as many as there are cores.
"""

import argparse
import copy
import re
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
from detcenter.models import build_model
from detcenter.runs.passes import input_size, size_within

_SIDES = {"min_size": 320, "max_size": 320}
MODELS: dict[str, dict[str, Any]] = {
    "ssd300_vgg16": {},
    "ssdlite320_mobilenet_v3_large": {},
    "retinanet_resnet50_fpn": _SIDES,
    "fcos_resnet50_fpn": _SIDES,
    "fasterrcnn_mobilenet_v3_large_320_fpn": _SIDES,
    "fasterrcnn_resnet50_fpn": _SIDES,
}
CLASSES = 21
Found = dict[str, np.ndarray]


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
    differ there at most."""
    same = [(a, b) for a, b in found if np.array_equal(a["labels"], b["labels"])]
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


def _new(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(name, CLASSES, weights_backbone=None, **MODELS[name]).eval()
    for key, parameter in model.named_parameters():
        if key.endswith("weight") and re.search(r"cls|classification_head|box_predictor", key):
            nn.init.normal_(parameter, std=(4 / parameter[0].numel()) ** 0.5)
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
