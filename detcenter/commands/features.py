"""`detcenter features`: a checkpoint and a data set in, features, pictures and a table out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from detcenter.analysis import compactness_table, projections, scatter
from detcenter.errors import ConfigError
from detcenter.models import terms_of
from detcenter.progress import bar
from detcenter.recipe.datasets import validation_set
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import data_parser, parse
from detcenter.runs.checkpoints import checkpoint_in, detector_of
from detcenter.runs.features import (
    centers_of,
    compactness_of,
    measures_on_sphere,
    save_features,
    unit,
)
from detcenter.runs.passes import features_in

_BATCH = 8  # images


def main(args: Sequence[str]) -> None:
    """Write ``features.npz``, ``features.png`` and ``compactness.json``, print the table."""
    need("matplotlib", "plots", "drawing features")
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
    on_sphere = not arguments.raw and measures_on_sphere(model, arguments.term)
    result = compactness_of(found, classes, on_sphere)
    (folder / "compactness.json").write_text(json.dumps(result, indent=2))
    print(compactness_table(result, classes))
    _picture(folder / "features.png", found, centers, classes, on_sphere)
    print(f"features.npz, features.png and compactness.json in {folder}")


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
