"""`detcenter openset`: how a detector meets objects of classes that it was not taught."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from detcenter.commands.predict import UNKNOWN
from detcenter.errors import ConfigError
from detcenter.evaluation import metrics_json
from detcenter.evaluation.table import aligned
from detcenter.options import openset as options
from detcenter.recipe.config import DataConfig, config_from_dict
from detcenter.recipe.parsing import parse, parse_recipe
from detcenter.runs.checkpoints import checkpoint_in, detector_of
from detcenter.runs.compared import train_all
from detcenter.runs.folder import LAST
from detcenter.runs.launching import Launch
from detcenter.runs.open_set import OpenSet, open_set
from detcenter.training import load_checkpoint, save_checkpoint
from detcenter.unknown import WAYS

logger = logging.getLogger("detcenter")

_COLUMNS = {
    "AUROC": "AUROC",
    "FPR95": "FPR95",
    "AP_unknown": "AP unknown",
    "U_recall": "U-recall",
    "WI": "WI",
    "A_OSE": "A-OSE",
    "AP_known": "AP known",
}


def main(args: Sequence[str]) -> None:
    """Print the table; write ``--json``, and with ``--save`` a checkpoint that has the scorer."""
    checkpoint, recipe = checkpoint_in(args)
    if checkpoint:
        arguments = parse(options.parser(args, recipe), args)
        data, path = arguments.data, Path(arguments.checkpoint)
        _check(arguments)
    else:
        arguments, data, path = _trained(args)
        checkpoint = load_checkpoint(path)
    if arguments.save and UNKNOWN in checkpoint["classes"]:
        raise ConfigError(
            f"--save: the checkpoint has a class {UNKNOWN!r}, which is what predict calls objects "
            "of no class; give it another name in the data"
        )
    measured = config_from_dict(checkpoint["config"]).evaluation
    found = open_set(
        detector_of(checkpoint, path),
        data,
        checkpoint["classes"],
        arguments.lose,
        measured.iou,
        arguments.score,
        measured.max_detections,
    )
    print(_table(found))
    if not found.unknown:
        logger.warning("no class is left out of training (data.unknown): nothing unknown is met")
    if arguments.json:
        values = {"unknown": found.unknown, "lose": arguments.lose, "score": arguments.score}
        values |= {"unmarked": found.unmarked}
        _make_folder(arguments.json).write_text(metrics_json(values | {"by": found.marked}))
    if arguments.save:
        scorer = found.scorers[arguments.by]
        save_checkpoint(_make_folder(arguments.save), **checkpoint | {"unknown": scorer.state()})
        print(f"{arguments.save} marks what is unknown, by {arguments.by}: detcenter predict")


def _check(arguments: Namespace) -> None:
    if arguments.by not in WAYS:
        raise ConfigError(f"--by is one of {', '.join(WAYS)}, not {arguments.by!r}")
    if not 0 <= arguments.score <= 1:
        raise ConfigError(f"--score is a number from 0 to 1, not {arguments.score:g}")
    if not 0 <= arguments.lose < 1:
        raise ConfigError(f"--lose is a share from 0 to below 1, not {arguments.lose:g}")


def _trained(args: Sequence[str]) -> tuple[Namespace, DataConfig, Path]:
    """The recipe's run, which is trained, or gone on with, if it is not finished."""
    config, arguments = parse_recipe(options.parser(args), args)
    _check(arguments)
    if not config.data.unknown:
        raise ConfigError("data.unknown names the classes to leave out, '[8, 9]' say")
    name = Path(str(arguments.config[-1])).stem
    folder = Path(config.output or f"runs/openset_{name}")
    config.output = str(folder)
    train_all({folder: config}, Launch())
    return arguments, config.data, folder / LAST


def _make_folder(name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _table(found: OpenSet) -> str:
    rows = [["unknown by", *_COLUMNS.values()], ["(none)", "", "", *_cells(found.unmarked)[2:]]]
    rows += [[way, *_cells(metrics)] for way, metrics in found.marked.items()]
    counts = found.unmarked
    said = [
        f"unknown objects: {counts['unknown_objects']}, in "
        f"{counts['images_with_unknown']} images; not detected at all: "
        f"{_cell(counts['undetected'])}",
        f"AUROC of {counts['right_detections']} right detections and "
        f"{counts['detections_on_unknown']} on unknown objects",
    ]
    return "\n".join([aligned(rows), "", *said])


def _cells(metrics: Mapping[str, Any]) -> list[str]:
    return [_cell(metrics[key]) for key in _COLUMNS]


def _cell(value: float) -> str:
    return "–" if value != value else str(value) if isinstance(value, int) else f"{value:.3f}"
