"""What a comparison knows of a finished run, from the files in its folder."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml

from detcenter.errors import ConfigError
from detcenter.evaluation import load_detections, save_detections
from detcenter.models import detach, terms_of
from detcenter.recipe.config import Config, config_from_dict
from detcenter.recipe.datasets import check_backend, validation_set
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.collapse import on_unit_sphere
from detcenter.runs.features import compactness_of
from detcenter.runs.folder import DAMAGED, write_whole
from detcenter.runs.passes import detect_in, features_in
from detcenter.training import load_checkpoint

_BATCH = 8  # images


class MeasuredRun(NamedTuple):
    """A finished run. Ratios and costs are None where they are not known."""

    config: Config
    classes: list[str]
    annotations: list[dict[str, Any]]
    detections: Sequence[dict[str, Any]]  # of the last epoch's weights
    own_ratio: float | None  # of scatter within to between classes, of the detector's own vectors
    term_ratio: float | None  # likewise, of what the first term reads
    step_seconds: float | None
    memory_mib: float | None


def recipe_of(folder: Path) -> Config:
    """The recipe that the run in ``folder`` was started with.

    Raises:
        ConfigError: if no run is there.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{folder} is no run: it holds no config.yaml")
    try:
        values = yaml.safe_load(path.read_text())
        if not isinstance(values, dict):
            raise ConfigError("it holds no recipe of a run")
        return config_from_dict(values)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def finished_recipe(folder: Path) -> Config:
    """The recipe of a run that has finished.

    Raises:
        ConfigError: if no run is there, or one that has not finished.
    """
    config = recipe_of(folder)
    if not is_finished(folder):
        raise ConfigError(
            f"{folder} is unfinished: {epochs_done(folder)} of {config.train.epochs} epochs; "
            "continue it with --resume"
        )
    return config


def is_finished(folder: Path) -> bool:
    return (folder / "results.json").exists()


def is_measured(folder: Path) -> bool:
    """Finished, and all that a comparison reads is there."""
    files = ("results.json", "detections.npz", "measured.json")
    return all((folder / name).exists() for name in files)


def epochs_done(folder: Path) -> int:
    """How many epochs of the run in ``folder`` are whole."""
    return len(history_of(folder))


def measured_run(folder: Path) -> MeasuredRun:
    """Read, and take from its last checkpoint what was not written yet, which is kept then.

    Raises:
        ConfigError: if no run is there, or one that has not finished.
    """
    config, rows = finished_recipe(folder), history_of(folder)
    check_backend(config.evaluation)
    if not is_measured(folder):
        _measure(folder, config)
    annotations, found = detections_of(folder)
    ratios = json.loads((folder / "measured.json").read_text())
    # The first epoch warms up; the median is of those that nothing disturbed.
    steps = [float(row["step_seconds"]) for row in rows[1:] or rows if row.get("step_seconds")]
    return MeasuredRun(
        config,
        ratios["classes"],
        annotations,
        found,
        ratios["own"],
        ratios["term"],
        median(steps) if steps else None,
        max((float(row["memory_mib"]) for row in rows if row.get("memory_mib")), default=None),
    )


def detections_of(folder: Path) -> tuple[list[dict[str, Any]], Sequence[dict[str, Any]]]:
    """The annotations and detections of a finished run.

    Raises:
        ConfigError: if their file is damaged.
    """
    try:
        return load_detections(folder / "detections.npz")
    except DAMAGED as error:
        raise ConfigError(f"{folder / 'detections.npz'} is damaged: {error}") from None


def _measure(folder: Path, config: Config) -> None:
    """Write ``detections.npz`` if it is not there, and ``measured.json``."""
    checkpoint = load_checkpoint(folder / "last.pth")
    classes: list[str] = checkpoint["classes"]
    model = detector_of(checkpoint, folder / "last.pth")
    dataset = validation_set(config.data, classes)
    if not (folder / "detections.npz").exists():
        found = detect_in(dataset, model, _BATCH, config.data.workers)
        save_detections(folder / "detections.npz", dataset.annotations, found)
    term = terms_of(model).named(None)
    ratios: dict[str, Any] = {"classes": classes, "own": None, "term": None}
    if term is not None:
        boxes = features_in(dataset, model, _BATCH, config.data.workers)
        on_sphere = on_unit_sphere(term.losses[0])
        ratios["term"] = compactness_of(boxes, classes, on_sphere)["ratio"]
    if term is None or term.embedded:
        boxes = features_in(dataset, detach(model), _BATCH, config.data.workers)
    # On the unit sphere whatever the term does, so that all variants are measured alike.
    ratios["own"] = compactness_of(boxes, classes, on_sphere=True)["ratio"]
    write_whole(folder / "measured.json", json.dumps(ratios))


def history_of(folder: Path) -> list[dict[str, str]]:
    """The rows of the run's ``metrics.csv``, one an epoch."""
    path = folder / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
