"""`detcenter features`: a checkpoint and a data set in, features, pictures and a table out."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from detcenter.analysis import compactness, compactness_table, projections, scatter
from detcenter.commands.checkpoints import checkpoint_in, detector_of
from detcenter.commands.collapse import on_unit_sphere
from detcenter.commands.datasets import validation_set
from detcenter.commands.passes import features_in
from detcenter.commands.progress import bar
from detcenter.commands.run_folder import DAMAGED, LAST
from detcenter.config import Config
from detcenter.data import DetectionDataset
from detcenter.errors import ConfigError
from detcenter.evaluation.detections import save_arrays
from detcenter.losses import CenterLoss
from detcenter.models import terms_of
from detcenter.parsing import data_parser, parse
from detcenter.training import load_checkpoint

_BATCH = 8  # images


def main(args: Sequence[str]) -> None:
    """Write ``features.npz``, ``features.png`` and ``compactness.json``, print the table."""
    check_for_plots()
    checkpoint, defaults = checkpoint_in(args)
    parser = data_parser("detcenter features", "What the features of data.val say.", defaults)
    parser.add_argument("--checkpoint", type=str, required=True, help="a .pth file of a run")
    parser.add_argument("--output", type=str, default="features", help="folder for the results")
    parser.add_argument("--term", type=str, help="whose features; the first one's unless given")
    parser.add_argument("--raw", action="store_true", help="never put features on the unit sphere")
    arguments = parse(parser, args)

    classes, folder = checkpoint["classes"], Path(arguments.output)
    dataset = validation_set(arguments.data, classes)
    model = detector_of(checkpoint, Path(arguments.checkpoint))
    _check_term(model, arguments.term)
    progress = bar("features", "batch")
    found = features_in(dataset, model, _BATCH, arguments.data.workers, arguments.term, progress)
    if not len(found["labels"]):
        raise ConfigError(f"data.val {arguments.data.val!r} has no boxes to take features of")
    centers = centers_of(model, arguments.term)
    folder.mkdir(parents=True, exist_ok=True)
    save_features(folder / "features.npz", found, dataset, model, arguments.term)
    on_sphere = not arguments.raw and _on_sphere(model, arguments.term)
    result = measured(found, classes, on_sphere)
    (folder / "compactness.json").write_text(json.dumps(result, indent=2))
    print(compactness_table(result, classes))
    _picture(folder / "features.png", found, centers, classes, on_sphere)
    print(f"features.npz, features.png and compactness.json in {folder}")


def features_of_run(folder: Path, config: Config, dataset: DetectionDataset) -> dict[str, Any]:
    """The features of the boxes of ``dataset``, by the last weights of the run in ``folder``.

    What `features_in` gives, on the unit sphere if the term measures there, ``centers`` likewise
    (None if there are none), and ``space``, what the features are in words. They are taken once,
    and kept in the folder.
    """
    path = folder / "features_val.npz"
    kept = _kept_features(path)
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


def _kept_features(path: Path) -> dict[str, Any] | None:
    """What `save_features` wrote; None if nothing can be read, or an earlier version wrote it."""
    try:
        with np.load(path) as arrays:
            kept = dict(arrays)
    except (OSError, *DAMAGED):
        return None
    return kept if "on_sphere" in kept else None


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
        "on_sphere": np.array(_on_sphere(model, name)),
    }
    if centers is not None:
        arrays["centers"] = centers
    save_arrays(path, arrays)


def measured(
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


def _on_sphere(model: nn.Module, name: str | None) -> bool:
    """As the term measures; so that its absence can be compared with it, also without a term."""
    term = terms_of(model).named(name)
    return term is None or on_unit_sphere(term.losses[0])


def _check_term(model: nn.Module, name: str | None) -> None:
    try:
        terms_of(model).named(name)
    except ValueError as error:
        raise ConfigError(f"--term: {error}") from None


def _picture(
    path: Path,
    found: Mapping[str, np.ndarray],
    centers: np.ndarray | None,
    classes: Sequence[str],
    on_sphere: bool,
) -> None:
    features = unit(found["features"]) if on_sphere else found["features"]
    if centers is None:
        title = f"{len(features)} boxes; the detector keeps no single table of centers"
    else:
        centers = unit(centers) if on_sphere else centers
        title = f"{len(features)} boxes, and the centers of the loss"
    panels = projections(features, found["labels"], centers=centers)
    scatter(panels, classes, title).savefig(path)


def check_for_plots() -> None:
    """Before anything that takes long."""
    if find_spec("matplotlib") is None:
        raise ConfigError("drawing features needs matplotlib: pip install 'detcenter[plots]'")
