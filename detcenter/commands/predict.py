"""`detcenter predict`: a checkpoint and images in, drawn boxes and JSON out."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from detcenter.commands.checkpoints import load_detector
from detcenter.config import ConfigError, parse, plain_parser
from detcenter.data import read_image
from detcenter.evaluation import draw_boxes
from detcenter.training import detect

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def main(args: Sequence[str]) -> None:
    """Write a picture an image, and ``detections.json`` for all, into ``--output``."""
    parser = plain_parser("detcenter predict", "Detect in images.")
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--checkpoint", type=str, required=True, help="a .pth file of a run")
    parser.add_argument("--output", type=str, default="predictions", help="folder for the results")
    parser.add_argument("--score", type=float, default=0.5, help="lowest score that is shown")
    arguments = parse(parser, args)

    paths = [path for name in arguments.images for path in _images_at(Path(name))]
    model, classes = load_detector(Path(arguments.checkpoint))
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for path, name in zip(tqdm(paths, unit="image"), _names(paths), strict=True):
        image = read_image(path)
        found = _detect(model, image, arguments.score)
        picture = draw_boxes(image, found["boxes"], found["labels"], classes, found["scores"])
        Image.fromarray(picture).save(output / f"{name}.png")
        rows.append({"file": str(path), "detections": _as_rows(found, classes)})
    (output / "detections.json").write_text(json.dumps(rows, indent=2))
    print(f"{len(rows)} pictures and detections.json in {output}")


def _images_at(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        if not found:
            raise ConfigError(f"{path}: no images ({', '.join(sorted(_SUFFIXES))}) in this folder")
        return found
    if not path.exists():
        raise ConfigError(f"{path}: no such image or folder")
    return [path]


def _names(paths: Sequence[Path]) -> Iterator[str]:
    """File stems, with a number added where one occurs again."""
    used: set[str] = set()
    for path in paths:
        candidates = [path.stem, *(f"{path.stem}-{n}" for n in range(2, len(paths) + 2))]
        name = next(candidate for candidate in candidates if candidate not in used)
        used.add(name)
        yield name


def _detect(model: nn.Module, image: Any, lowest_score: float) -> dict[str, Tensor]:
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    device = next(model.parameters()).device
    (found,) = detect(model, [([tensor], [])], device)
    return {name: x[found["scores"] >= lowest_score] for name, x in found.items()}


def _as_rows(found: dict[str, Tensor], classes: Sequence[str]) -> list[dict[str, Any]]:
    columns = (found[name].tolist() for name in ("boxes", "labels", "scores"))
    return [
        {"class": classes[label - 1], "label": label, "score": score, "box": box}
        for box, label, score in zip(*columns, strict=True)
    ]
