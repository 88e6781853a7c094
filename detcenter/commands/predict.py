"""`detcenter predict`: a checkpoint and images in, drawn boxes and JSON out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detcenter.data import Annotation, DataError, DetectionDataset, image_faults, image_size
from detcenter.errors import ConfigError
from detcenter.evaluation import draw_boxes
from detcenter.progress import bar
from detcenter.recipe.parsing import parse, plain_parser
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.passes import detect_in
from detcenter.training import load_checkpoint

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_BATCH = 8  # images


def main(args: Sequence[str]) -> None:
    """Write a picture an image, and ``detections.json`` for all, into ``--output``.

    Images that cannot be read do not keep the others waiting; they are an error at the end.
    """
    parser = plain_parser("detcenter predict", "Detect in images.")
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--checkpoint", type=str, required=True, help="a .pth file of a run")
    parser.add_argument("--output", type=str, default="predictions", help="folder for the results")
    parser.add_argument("--score", type=float, default=0.5, help="lowest score that is shown")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")
    arguments = parse(parser, args)

    output = Path(arguments.output)
    named = [path for name in arguments.images for path in _images_at(Path(name))]
    faults = image_faults(named, bar("checking images"))
    paths = [path for path in named if path not in {fault.file for fault in faults}]
    if not paths:
        raise DataError(*faults)
    pictures = [output / f"{name}.png" for name in _names(paths)]
    _check_apart(paths, pictures)
    checkpoint = load_checkpoint(Path(arguments.checkpoint))
    classes = checkpoint["classes"]
    dataset = DetectionDataset([_without_boxes(path) for path in paths], classes)
    model = detector_of(checkpoint, Path(arguments.checkpoint))
    detections = detect_in(
        dataset, model, _BATCH, arguments.workers, progress=bar("detecting", "batch")
    )
    shown = [_above(found, arguments.score) for found in detections]

    output.mkdir(parents=True, exist_ok=True)
    pairs = zip(paths, shown, strict=True)
    rows = [{"file": str(path), "detections": _as_rows(found, classes)} for path, found in pairs]
    (output / "detections.json").write_text(json.dumps(rows, indent=2))
    _draw(dataset, pictures, shown)
    print(f"{len(rows)} pictures and detections.json in {output}")
    if faults:
        raise DataError(*faults)


def _draw(
    dataset: DetectionDataset, pictures: Sequence[Path], shown: Sequence[Mapping[str, Any]]
) -> None:
    for i, (picture, found) in enumerate(zip(pictures, shown, strict=True)):
        image, classes = dataset.image(i), dataset.classes
        drawn = draw_boxes(image, found["boxes"], found["labels"], classes, found["scores"])
        Image.fromarray(drawn).save(picture)


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


def _check_apart(paths: Sequence[Path], pictures: Sequence[Path]) -> None:
    both = {path.resolve() for path in paths} & {picture.resolve() for picture in pictures}
    if both:
        raise ConfigError(f"--output would overwrite the image {sorted(both)[0]}; name another")


def _without_boxes(path: Path) -> Annotation:
    width, height = image_size(path)
    none = np.zeros(0, dtype=bool)
    return Annotation(
        image_id=0,
        path=path,
        width=width,
        height=height,
        boxes=np.zeros((0, 4), dtype=np.float32),
        labels=np.zeros(0, dtype=np.int64),
        iscrowd=none,
        difficult=none,
        area=np.zeros(0, dtype=np.float32),
    )


def _above(found: Mapping[str, Any], lowest_score: float) -> dict[str, Any]:
    keep = found["scores"] >= lowest_score
    return {name: values[keep] for name, values in found.items()}


def _as_rows(found: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    columns = (found[name].tolist() for name in ("boxes", "labels", "scores"))
    return [
        {"class": classes[label - 1], "label": label, "score": score, "box": box}
        for box, label, score in zip(*columns, strict=True)
    ]
