"""`detcenter evaluate`: a checkpoint and a data set in, a table and JSON out."""

import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from detcenter.commands.checkpoints import checkpoint_in, detector_of
from detcenter.commands.datasets import validation_set
from detcenter.commands.passes import detect_in
from detcenter.errors import ConfigError
from detcenter.evaluation import (
    coco_results,
    evaluate_detections,
    metrics_json,
    results_table,
)
from detcenter.parsing import data_parser, parse

_BATCH = 8  # images


def main(args: Sequence[str]) -> None:
    """Print the table of results; the data set is the checkpoint's own unless told otherwise."""
    checkpoint, defaults = checkpoint_in(args)
    parser = data_parser("detcenter evaluate", "Measure a checkpoint on data.val.", defaults)
    parser.add_argument("--checkpoint", type=str, required=True, help="a .pth file of a run")
    parser.add_argument("--json", type=str, help="write the numbers to this file as JSON")
    parser.add_argument("--detections", type=str, help="write a COCO result file")
    arguments = parse(parser, args)

    if arguments.detections and arguments.data.folds:
        raise ConfigError(
            "--detections: the images of data.folds are numbered anew, so that no COCO file fits "
            "them; set --data.folds null for those of data.val"
        )
    classes = checkpoint["classes"]
    dataset = validation_set(arguments.data, classes)
    model = detector_of(checkpoint, Path(arguments.checkpoint))
    found = detect_in(dataset, model, _BATCH, arguments.data.workers, progress=tqdm)
    metrics = evaluate_detections(dataset.annotations, found, classes)
    print(results_table(metrics, classes))
    if arguments.json:
        _write(Path(arguments.json), metrics_json(metrics))
    if arguments.detections:
        rows = coco_results(dataset.annotations, found, dataset.category_ids)
        _write(Path(arguments.detections), json.dumps(rows))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
