"""`detcenter sweep`: one recipe at several weights of the center term, and the paper's figure.

Wen et al. (ECCV 2016) show two-dimensional features that draw together as the weight rises.
"""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from detcenter.analysis import SweepCell, sweep_figure
from detcenter.commands.launching import launch_of
from detcenter.errors import ConfigError
from detcenter.options import sweep as options
from detcenter.recipe.config import Config
from detcenter.recipe.datasets import part_of
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import parse_recipe
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.compared import train_all
from detcenter.runs.features import centers_of, compactness_of, part_features, save_features, unit
from detcenter.runs.folder import write_whole
from detcenter.training import load_checkpoint
from detcenter.whole_file import whole_file


def main(args: Sequence[str]) -> None:
    """Train what is not trained yet, and write ``sweep.png`` and ``sweep.json``."""
    config, arguments = parse_recipe(options.parser(), args)
    need("matplotlib", "plots", "the picture")
    _check(config, arguments.weights)
    folder = Path(config.output or f"runs/{Path(str(arguments.config[-1])).stem}")
    runs = {weight: _run(config, folder, weight) for weight in arguments.weights}
    by_folder = {Path(str(run.output)): run for run in runs.values()}
    train_all(by_folder, launch_of(arguments, folder))
    rows = [_measured(run, weight) for weight, run in runs.items()]
    cells, numbers = [cell for cell, _ in rows], [row for _, row in rows]
    write_whole(folder / "sweep.json", json.dumps(numbers, indent=2))
    print(_table(numbers))
    classes = list(numbers[0]["val"]["by_class"])
    with whole_file(folder / "sweep.png") as file:
        sweep_figure(cells, classes).savefig(file, format="png")
    print(f"sweep.png, sweep.json and the runs in {folder}")


def _check(config: Config, weights: Sequence[float]) -> None:
    if config.center is None:
        raise ConfigError("center is null: a sweep needs a center term to weigh")
    if config.center.features != "embedding" or config.center.embedding_dim != 2:
        raise ConfigError(
            "a sweep draws features of two dimensions: set center.features to embedding and "
            "center.embedding_dim to 2"
        )
    if not weights or min(weights) < 0 or not all(map(math.isfinite, weights)):
        raise ConfigError(f"--weights are one or more numbers from 0 up, not {list(weights)}")
    if len({f"{weight:g}" for weight in weights}) < len(weights):
        raise ConfigError(f"--weights has a weight twice: {list(weights)}")


def _run(config: Config, sweep: Path, weight: float) -> Config:
    config = copy.deepcopy(config)
    assert config.center is not None
    config.center.weight, config.output = weight, str(sweep / f"weight_{weight:g}")
    return config


def _measured(config: Config, weight: float) -> tuple[SweepCell, dict[str, Any]]:
    """What the model that came out at ``weight`` makes of both parts."""
    assert config.center is not None
    folder = Path(str(config.output))
    checkpoint = load_checkpoint(folder / "last.pth")
    classes: list[str] = checkpoint["classes"]
    model = detector_of(checkpoint, folder / "last.pth")
    centers = centers_of(model)
    on_sphere = config.center.normalize
    parts = {}
    names: tuple[Literal["train", "val"], ...] = ("train", "val")
    for name in names:
        dataset = part_of(config.data, name, classes)
        parts[name] = part_features(dataset, model, config.data.workers)
        save_features(folder / f"features_{name}.npz", {name: parts[name]}, classes, model)
    shown = unit if on_sphere else np.asarray
    train_boxes, val_boxes = ((shown(part["features"]), part["labels"]) for part in parts.values())
    results = json.loads((folder / "results.json").read_text())
    numbers = {"weight": weight, "AP": results["AP"], "AP50": results["AP50"]}
    numbers |= {name: compactness_of(part, classes, on_sphere) for name, part in parts.items()}
    cell = SweepCell(
        weight,
        train_boxes,
        val_boxes,
        centers=centers,
        center_labels=np.arange(1, len(classes) + 1),
        ap=results["AP"],
        ratio=numbers["val"]["ratio"],
    )
    return cell, numbers


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'weight':>8}{'AP':>8}{'AP50':>8}{'ratio, train':>14}{'ratio, val':>12}"]
    for row in rows:
        values = row["AP"], row["AP50"], row["train"]["ratio"], row["val"]["ratio"]
        ap, ap50, train, val = ("–" if x is None else f"{x:.3f}" for x in values)
        lines.append(f"{row['weight']:8g}{ap:>8}{ap50:>8}{train:>14}{val:>12}")
    return "\n".join(lines)
