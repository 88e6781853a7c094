"""The images of a fold through the eyes of the detector that was trained without them."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detcenter.audit import (
    Annotated,
    Missing,
    Placement,
    Witnesses,
    class_opinions,
    missing_boxes,
    placement,
)
from detcenter.data import DetectionDataset
from detcenter.data.annotations import Annotations
from detcenter.data.dataset import learnable
from detcenter.errors import ConfigError
from detcenter.evaluation.detections import save_arrays
from detcenter.progress import bar
from detcenter.recipe.config import Config
from detcenter.recipe.datasets import part_of
from detcenter.recipe.folds import copies
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.features import kept_arrays, unit
from detcenter.runs.folder import LAST
from detcenter.runs.measured import detections_of
from detcenter.runs.passes import features_in, logits_and_features
from detcenter.runs.variants import truth_of
from detcenter.training import load_checkpoint

_BATCH = 8  # images
_KEPT = "audit.npz"


class Fold(NamedTuple):
    """What a detector says of images that it was not trained on."""

    dataset: DetectionDataset  # of these images
    annotated: Annotated  # of the boxes to learn from: no crowds, difficult ones only if kept
    directions: np.ndarray  # of these the features on the unit sphere, float32 [N, D]
    witnesses: Witnesses  # on them
    missing: Missing

    def path(self, image: int) -> Path:
        found: Path = self.dataset.annotations[image]["path"]
        return found


def fold_runs(folder: Path, config: Config, folds: int) -> dict[Path, Config]:
    """The trainings of all folds by their folders; of each a part of the images is held out."""
    runs = {}
    for fold in range(folds):
        run, path = copy.deepcopy(config), folder / f"fold_{fold}"
        run.data.folds, run.data.fold, run.output = folds, fold, str(path)
        runs[path] = run
    return runs


def fold_of(folder: Path, config: Config) -> Fold:
    """What the finished run of a fold in ``folder`` says of the images that were held out.

    The two passes that it takes, over these images and over those that were trained on, are made
    once, and what they gave is kept in the folder.

    Raises:
        ConfigError: if annotations have changed since the run was trained.
    """
    checkpoint = load_checkpoint(folder / LAST)
    classes: list[str] = checkpoint["classes"]
    held_out = part_of(config.data, "val", classes)
    annotations = Annotations(held_out.annotations)
    known, detections = detections_of(folder)
    if truth_of(known, classes) != truth_of(annotations, classes):
        raise ConfigError(
            f"annotations have changed since {folder} was trained; another --output trains anew"
        )
    looked_at = learnable(annotations.columns, held_out.keep_difficult)  # type: ignore[arg-type]
    annotated = _annotated(annotations, looked_at)
    passed = kept_arrays(folder / _KEPT)
    if passed is None or len(passed["logits"]) != len(annotated.labels):
        passed = _passed(folder, checkpoint, config, held_out, annotated)
        save_arrays(folder / _KEPT, passed)
    directions = unit(passed["features"])
    opinions = class_opinions(
        passed["logits"],
        directions,
        annotated.labels,
        copies(held_out, config.data)[annotated.images],
        unit(passed["seen_features"]),
        passed["seen_labels"],
    )
    seen = np.bincount(passed["seen_labels"] - 1, minlength=len(classes))
    at_boxes = Placement(*(column[looked_at] for column in placement(annotations, detections)))
    return Fold(
        held_out,
        annotated,
        directions,
        Witnesses(passed["logits"], opinions, at_boxes, seen),
        missing_boxes(annotations, detections),
    )


def _annotated(annotations: Annotations, looked_at: np.ndarray) -> Annotated:
    """The boxes of all images for which ``looked_at`` [N] holds."""
    first = np.searchsorted(annotations.image, np.arange(len(annotations)))
    numbers = np.arange(len(annotations.image)) - first[annotations.image]
    columns = (
        annotations.image,
        numbers,
        annotations.columns["boxes"],
        annotations.columns["labels"],
    )
    return Annotated(*(column[looked_at] for column in columns))


def _passed(
    folder: Path,
    checkpoint: Mapping[str, Any],
    config: Config,
    held_out: DetectionDataset,
    annotated: Annotated,
) -> dict[str, np.ndarray]:
    """``logits`` and ``features`` of the boxes that are looked at, and ``seen_features`` and
    ``seen_labels`` of those that were trained on.
    """
    model, workers = detector_of(checkpoint, folder / LAST), config.data.workers
    boxes = np.split(
        annotated.boxes, np.searchsorted(annotated.images, np.arange(1, len(held_out)))
    )
    logits, features = logits_and_features(
        held_out, model, boxes, _BATCH, workers, bar("held out", "batch")
    )
    others = part_of(config.data, "train", held_out.classes)
    seen = features_in(others, model, _BATCH, workers, progress=bar("trained on", "batch"))
    return {
        "logits": logits,
        "features": features,
        "seen_features": seen["features"],
        "seen_labels": seen["labels"],
    }
