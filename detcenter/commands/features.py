"""`detcenter features`: a checkpoint and a data set in, features, pictures and a table out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from detcenter.analysis import compactness_table, projections, scatter
from detcenter.data import DetectionDataset
from detcenter.errors import ConfigError
from detcenter.models import terms_of
from detcenter.options import features as options
from detcenter.progress import bar
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import part_of
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import parse
from detcenter.runs.checkpoints import checkpoint_in, detector_of
from detcenter.runs.features import (
    centers_of,
    compactness_of,
    joined_parts,
    measures_on_sphere,
    part_features,
    save_features,
    unit,
)
from detcenter.runs.parquet import save_parquet

_FORMATS = {"npz": save_features, "parquet": save_parquet}


def main(args: Sequence[str]) -> None:
    """Write the features, ``features.png`` and ``compactness.json``, print the table."""
    need("matplotlib", "plots", "drawing features")
    checkpoint, recipe = checkpoint_in(args)
    arguments = parse(options.parser(args, recipe), args)
    formats = _formats(arguments.format)

    classes, folder = checkpoint["classes"], Path(arguments.output)
    datasets = datasets_of(arguments.data, arguments.part, classes)
    model = detector_of(checkpoint, Path(arguments.checkpoint))
    check_term(model, arguments.term)
    parts = {
        part: part_features(
            *(dataset, model, arguments.data.workers, arguments.term),
            bar(f"features of data.{part}", "batch"),
        )
        for part, dataset in datasets.items()
    }
    found = joined_parts(parts)
    if not len(found["labels"]):
        names = [f"data.{part} {getattr(arguments.data, part)!r}" for part in parts]
        raise ConfigError(f"{' and '.join(names)}: no boxes to take features of")
    centers = centers_of(model, arguments.term)
    folder.mkdir(parents=True, exist_ok=True)
    for name in formats:
        _FORMATS[name](folder / f"features.{name}", parts, classes, model, arguments.term)
    on_sphere = not arguments.raw and measures_on_sphere(model, arguments.term)
    result = compactness_of(found, classes, on_sphere)
    (folder / "compactness.json").write_text(json.dumps(result, indent=2))
    print(compactness_table(result, classes))
    _picture(folder / "features.png", found, centers, classes, on_sphere)
    written = ", ".join(f"features.{name}" for name in formats)
    print(f"{written}, features.png and compactness.json in {folder}")


def _formats(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in _FORMATS:
            known = ", ".join(_FORMATS)
            raise ConfigError(f"--format {name!r} is none of {known}; both are npz,parquet")
    if "parquet" in names:
        need("pyarrow", "parquet", "--format parquet", "npz needs nothing")
    return names


def datasets_of(data: DataConfig, part: str, classes: list[str]) -> dict[str, DetectionDataset]:
    """Those of ``--part``, by their names."""
    if part not in options.PARTS:
        raise ConfigError(f"--part is one of {', '.join(options.PARTS)}, not {part!r}")
    return {name: part_of(data, name, classes) for name in options.PARTS[part]}


def check_term(model: nn.Module, name: str | None) -> None:
    """Whether there is the term that ``--term`` names."""
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
