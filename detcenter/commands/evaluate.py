"""`detcenter evaluate`: detections, of a checkpoint or from a file, in; tables and JSON out."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace

from detcenter.data import COCODataset, DetectionDataset
from detcenter.data.dataset import Annotation
from detcenter.data.findings import Part, in_words, negative_sides, unit_findings
from detcenter.errors import ConfigError
from detcenter.evaluation import (
    calibration_line,
    coco_results,
    confusion_table,
    errors_table,
    evaluate_detections,
    groups_in,
    load_results,
    metrics_json,
    results_table,
)
from detcenter.options import evaluate as options
from detcenter.progress import bar
from detcenter.recipe.config import EvaluationConfig
from detcenter.recipe.datasets import check_backend, validation_set
from detcenter.recipe.parsing import parse, with_whole_names
from detcenter.runs.checkpoints import checkpoint_in, classes_of, detector_of, with_vote
from detcenter.runs.passes import detect_in, remark_limits

logger = logging.getLogger("detcenter")

_BATCH = 8  # images
_OF_CHECKPOINTS = ("--checkpoint", "--detections", "--data.", "--center.")


def main(args: Sequence[str]) -> None:
    """Print the tables; a checkpoint's data set is its own unless told otherwise."""
    checkpoint, recipe = checkpoint_in(args)
    parser = options.parser(args, recipe)
    args = with_whole_names(parser, args)
    arguments = parse(parser, args)
    chosen: EvaluationConfig = arguments.evaluation
    check_backend(chosen)
    if arguments.predictions or arguments.annotations:
        dataset, found = _from_files(args, arguments)
        remark_limits(dataset, chosen.max_detections)
    else:
        dataset, found = _by_checkpoint(checkpoint, arguments)
    metrics = evaluate_detections(
        dataset.annotations,
        found,
        dataset.classes,
        chosen.backend,
        chosen.score,
        chosen.max_detections,
        chosen.iou,
        checkpoint.get("frequency") or groups_in(dataset.categories, dataset.classes),
    )
    print("\n\n".join(_tables(metrics, dataset.classes, chosen.iou)))
    if arguments.json:
        _write(Path(arguments.json), metrics_json(metrics))
    if arguments.detections:
        _write_detections(Path(arguments.detections), dataset, found)


def _tables(metrics: Mapping[str, Any], classes: Sequence[str], iou: float) -> list[str]:
    return [
        results_table(metrics, classes),
        calibration_line(metrics["calibration"]),
        errors_table(metrics["errors"], iou),
        confusion_table(metrics["confusion"], iou=iou),
    ]


def _by_checkpoint(
    checkpoint: Mapping[str, Any], arguments: Namespace
) -> tuple[DetectionDataset, Sequence[dict[str, Any]]]:
    if arguments.detections and arguments.data.folds:
        raise ConfigError(
            "--detections: the images of data.folds are numbered anew, so that no COCO file fits "
            "them; set --data.folds null for those of data.val"
        )
    enrolled = classes_of(checkpoint)[len(checkpoint["classes"]) :]
    dataset = validation_set(arguments.data, checkpoint["classes"], enrolled)
    model = detector_of(with_vote(checkpoint, arguments.center.vote), Path(arguments.checkpoint))
    remark_limits(dataset, arguments.evaluation.max_detections, model)
    progress = bar("detecting", "batch")
    return dataset, detect_in(dataset, model, _BATCH, arguments.data.workers, progress)


def _from_files(
    args: Sequence[str], arguments: Namespace
) -> tuple[DetectionDataset, Sequence[dict[str, Any]]]:
    """The annotated boxes of one file and the detections of another; no image is looked at."""
    for argument in args:
        if argument.startswith(_OF_CHECKPOINTS):
            name = argument.partition("=")[0]
            raise ConfigError(
                f"{name} is for checkpoints; --predictions are measured without a model"
            )
    for name in ("predictions", "annotations"):
        if not arguments[name]:
            raise ConfigError(f"--{name} FILE is missing: --predictions and --annotations go along")
    dataset = COCODataset(None, arguments.annotations)
    ids = [annotation["image_id"] for annotation in dataset.annotations]
    try:
        found = load_results(Path(arguments.predictions), ids, dataset.category_ids)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    _warn_of_boxes(arguments.annotations, dataset.annotations, dataset.classes)
    detected = [_as_annotated(*pair) for pair in zip(dataset.annotations, found, strict=True)]
    _warn_of_boxes(arguments.predictions, detected, dataset.classes)
    return dataset, found


def _as_annotated(annotation: Annotation, found: Mapping[str, Any]) -> Annotation:
    """Detections as if they were annotated, for what is said of boxes."""
    detected, none = annotation.copy(), np.zeros(len(found["labels"]), bool)
    detected["boxes"], detected["labels"] = found["boxes"], found["labels"]
    detected["iscrowd"] = detected["difficult"] = none
    return detected


def _warn_of_boxes(file: str, annotations: Sequence[Annotation], classes: Sequence[str]) -> None:
    """Say what makes AP 0, as if the model had found nothing."""
    sized = []
    for annotation in annotations:
        sized.append(annotation.copy())
        width, height = annotation["width"], annotation["height"]
        sized[-1]["width"], sized[-1]["height"] = annotation.get("annotated_size", (width, height))
    part = Part(file, sized, classes, {})
    # In COCO's files width and height are what is due.
    units = [finding for finding in unit_findings(part) if finding and finding.kind != "sizes"]
    for finding in filter(None, [*units, negative_sides(part)]):
        logger.warning("%s: %s", file, in_words(finding))


def _write_detections(
    path: Path, dataset: DetectionDataset, found: Sequence[dict[str, Any]]
) -> None:
    """What json.dump writes of `coco_results`, image by image: of very many it needs no list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write("[")
        between = ""
        for annotation, detected in zip(dataset.annotations, found, strict=True):
            for row in coco_results([annotation], [detected], dataset.category_ids):
                file.write(between + json.dumps(row))
                between = ", "
        file.write("]")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
