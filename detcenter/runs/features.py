"""The features of a data set's boxes, and what a run keeps of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from detcenter.analysis import compactness
from detcenter.data import DetectionDataset
from detcenter.errors import ConfigError
from detcenter.evaluation.detections import save_arrays
from detcenter.losses import CenterLoss
from detcenter.models import terms_of
from detcenter.progress import bar
from detcenter.recipe.config import Config
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.collapse import on_unit_sphere
from detcenter.runs.folder import DAMAGED, LAST
from detcenter.runs.passes import features_in
from detcenter.training import load_checkpoint

_BATCH = 8  # images


def features_of_run(folder: Path, config: Config, dataset: DetectionDataset) -> dict[str, Any]:
    """The features of the boxes of ``dataset``, by the last weights of the run in ``folder``.

    What `features_in` gives, on the unit sphere if the term measures there, ``centers`` likewise
    (None if there are none), and ``space``, what the features are in words. They are taken once,
    and kept in the folder.
    """
    path = folder / "features_val.npz"
    kept = kept_arrays(path)
    if kept is not None and "on_sphere" not in kept:  # which an earlier version wrote
        kept = None
    if kept is None:
        checkpoint = load_checkpoint(folder / LAST)
        model = detector_of(checkpoint, folder / LAST)
        progress = bar("features", "batch")
        found = features_in(dataset, model, _BATCH, config.data.workers, progress=progress)
        save_features(path, found, dataset, model)
        kept = dict(np.load(path))
    if not np.isfinite(kept["features"]).all():
        raise ConfigError(f"{folder}: its features are not finite; the training has diverged")
    kind = "embedding" if kept["embedded"] else "the detector's own vectors"
    kept["space"] = f"{kind}, {kept['features'].shape[1]} dimensions"
    kept.setdefault("centers", None)
    if kept["on_sphere"]:
        kept["space"] += " on the unit sphere"
        kept["features"] = unit(kept["features"])
        kept["centers"] = None if kept["centers"] is None else unit(kept["centers"])
    return kept


def kept_arrays(path: Path) -> dict[str, Any] | None:
    """The arrays of an .npz file; None if there is none that can be read."""
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, *DAMAGED):
        return None


def centers_of(model: nn.Module, name: str | None = None) -> np.ndarray | None:
    """The centers [C - 1, D] of a term, from label 1; None where there is not one table of them.

    Detectors without an embedding have a table a level, and a model without terms has none.
    """
    term = terms_of(model).named(name)
    if term is None or len(term.losses) != 1 or not isinstance(term.losses[0], CenterLoss):
        return None
    table: np.ndarray = term.losses[0].centers[1:].cpu().numpy()
    return table


def save_features(
    path: Path,
    found: Mapping[str, np.ndarray],
    dataset: DetectionDataset,
    model: nn.Module,
    name: str | None = None,
) -> None:
    """What `features_in` found, and what it takes to read it: ``np.load(path)`` needs no pickle.

    ``embedded`` and ``on_sphere`` say what the term ``name`` reads, and where it measures.
    """
    term, centers = terms_of(model).named(name), centers_of(model, name)
    arrays: dict[str, Any] = {
        **found,
        "classes": np.array(dataset.classes),
        "files": np.array([str(annotation["path"]) for annotation in dataset.annotations]),
        "embedded": np.array(term is not None and term.embedded),
        "on_sphere": np.array(measures_on_sphere(model, name)),
    }
    if centers is not None:
        arrays["centers"] = centers
    save_arrays(path, arrays)


def compactness_of(
    found: Mapping[str, np.ndarray], classes: Sequence[str], on_sphere: bool
) -> dict[str, Any]:
    """The compactness of features, on the unit sphere or as they are."""
    features = unit(found["features"]) if on_sphere else found["features"]
    return compactness(features, found["labels"], classes)


def unit(rows: np.ndarray) -> np.ndarray:
    """[N, D] scaled to length 1, zeros left alone."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = rows / np.where(length > 0, length, 1)
    return scaled


def measures_on_sphere(model: nn.Module, name: str | None = None) -> bool:
    """As the term measures; so that its absence can be compared with it, also without a term."""
    term = terms_of(model).named(name)
    return term is None or on_unit_sphere(term.losses[0])
