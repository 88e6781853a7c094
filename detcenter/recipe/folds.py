"""The images of both parts of a data set cut into folds, and which of them are copies."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from detcenter.data import DetectionDataset, PooledDataset
from detcenter.data.splitting import contents, folds_of, groups_of_copies
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.groups import check_known, groups_of
from detcenter.recipe.layouts import Part


def fold_of_parts(both: list[DetectionDataset], data: DataConfig, part: Part) -> DetectionDataset:
    """Of both parts together the images of ``data.fold`` ("val"), or all others ("train")."""
    assert data.folds is not None
    paths = [annotation["path"] for dataset in both for annotation in dataset.annotations]
    if data.folds > len(paths):
        raise ConfigError(f"data.folds is {data.folds}, but there are {len(paths)} images")
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ConfigError(
            f"data.folds: {twice} is in data.train and in data.val; folds need it once"
        )
    together = groups_of(data)
    check_known(data, together, paths)
    # Fixed, so that all variants and seeds of a comparison are evaluated on the same parts.
    try:
        fold = folds_of(_names(paths), _contents(both), data.folds, map(_names, together))
    except ValueError as error:
        raise ConfigError(f"data.folds is {data.folds}: {error}") from None
    chosen = np.flatnonzero((fold == data.fold) == (part == "val")).tolist()
    pooled = PooledDataset(both, chosen)
    pooled.size_reported = all(dataset.size_reported for dataset in both)
    return pooled


def copies(dataset: DetectionDataset, data: DataConfig) -> np.ndarray:
    """Which images are copies of one another, or of one of ``data.groups``; equal numbers are.

    int64 [images].
    """
    names = _names(annotation["path"] for annotation in dataset.annotations)
    number = np.empty(len(names), np.int64)
    together = map(_names, groups_of(data))
    for group, members in enumerate(groups_of_copies(names, _contents([dataset]), together)):
        number[members] = group
    return number


def _names(paths: Iterable[Path]) -> list[str]:
    return [path.as_posix() for path in paths]


def _contents(datasets: list[DetectionDataset]) -> list[str]:
    """What tells apart the contents of the images of data sets, one after the other."""
    paths = [annotation["path"] for dataset in datasets for annotation in dataset.annotations]
    if all(path.is_file() for path in paths):
        return contents(paths)
    # Those of a packed data set are no files, but have names for their contents.
    return [dataset.version(n) for dataset in datasets for n in range(len(dataset))]
