"""`detcenter evaluate`: a checkpoint and a data set in, a table and JSON out."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import DataLoader
from tqdm import tqdm

from detcenter.commands import wiring
from detcenter.commands.checkpoints import load_detector, load_recipe
from detcenter.config import DataConfig, data_parser, parse
from detcenter.evaluation import evaluate_detections, metrics_json, results_table
from detcenter.training import collate, detect

_BATCH = 8  # images


def main(args: Sequence[str]) -> None:
    """Print the table of results; the data set is the checkpoint's own unless told otherwise."""
    checkpoint = _checkpoint_in(args)
    defaults = load_recipe(checkpoint).data if checkpoint else DataConfig()
    parser = data_parser("detcenter evaluate", "Measure a checkpoint on data.val.", defaults)
    parser.add_argument("--checkpoint", type=str, required=True, help="a .pth file of a run")
    parser.add_argument("--json", type=str, help="write the numbers to this file as JSON")
    arguments = parse(parser, args)

    model, classes = load_detector(Path(arguments.checkpoint))
    dataset = wiring.validation_set(arguments.data, classes)
    loader = DataLoader(dataset, _BATCH, collate_fn=collate, num_workers=arguments.data.workers)
    device = next(model.parameters()).device
    found = detect(model, tqdm(loader, unit="batch", leave=False), device)
    metrics = evaluate_detections(dataset.annotations, found, classes)
    print(results_table(metrics, classes))
    if arguments.json:
        path = Path(arguments.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(metrics_json(metrics))


def _checkpoint_in(args: Sequence[str]) -> Path | None:
    """Its recipe holds the other arguments' defaults, so it is looked for first."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--checkpoint", type=Path, nargs="?")
    found: Path | None = finder.parse_known_args(args)[0].checkpoint
    return found
