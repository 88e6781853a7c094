"""The boxes of a data set that are most like others: what is searched in, and what for."""

import filecmp
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detcenter.analysis import nearest
from detcenter.data import DetectionDataset, resized
from detcenter.errors import ConfigError
from detcenter.evaluation.matching import box_iou
from detcenter.models import box_features, detect_with_features
from detcenter.progress import bar
from detcenter.runs.features import (
    apart,
    data_digest,
    joined_parts,
    kept_arrays,
    measures_on_sphere,
    model_digest,
    name_of_term,
    part_features,
    save_features,
    unit,
)
from detcenter.runs.passes import input_size, scale_back, size_within
from detcenter.training import as_floats

INDEX = "features.npz"
"""In the folder of an index; the file that `detcenter features` writes."""

_ITSELF = 0.5  # IoU from which on an annotated box is that of the query


class Searched(NamedTuple):
    """N annotated boxes to search in, of M images."""

    features: np.ndarray  # float32 [N, D], on the unit sphere if the term measures there
    labels: np.ndarray  # int64 [N] from 1
    boxes: np.ndarray  # float32 [N, 4], xyxy in pixels
    images: np.ndarray  # int64 [N], the number of each box's image
    parts: list[str]  # of each image [M], "train" or "val"
    paths: list[Path]  # [M]
    places: list[tuple[DetectionDataset, int]]  # [M], the data set and where in it the image is
    on_sphere: bool


class Query(NamedTuple):
    """A box that others like it are looked for."""

    box: tuple[float, ...]  # xyxy in pixels of its image
    feature: np.ndarray  # float32 [D], in the space of what is searched in
    label: int | None = None  # what it was detected as
    score: float | None = None  # likewise


class Neighbour(NamedTuple):
    """A box like the query."""

    row: int  # among the boxes that are searched in
    closeness: float  # cosine on the unit sphere, else the Euclidean distance
    relation: str | None  # "same image" or "copy of the image"


class Answer(NamedTuple):
    """What was found for a query."""

    query: Query
    annotated: int | None  # the row of its own annotated box, which is no neighbour
    neighbours: list[Neighbour]  # the nearest first


def known_features(
    model: nn.Module,
    datasets: Mapping[str, DetectionDataset],
    workers: int,
    name: str | None = None,
    index: Path | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """What `part_features` gives of each part, from the folder ``index`` as far as it is there.

    What is not there is put there. Other parts that are there stay.

    Raises:
        ConfigError: what is there is damaged, or of another checkpoint, term or data set.
    """
    parts = {} if index is None else _kept(index, model, datasets, name)
    missing = [part for part in datasets if part not in parts]
    for part in missing:
        progress = bar(f"features of data.{part}", "batch")
        parts[part] = part_features(datasets[part], model, workers, name, progress)
    if index is not None and missing:
        index.mkdir(parents=True, exist_ok=True)
        classes = next(iter(datasets.values())).classes
        save_features(index / INDEX, parts, classes, model, name)
    return {part: parts[part] for part in datasets}


def _kept(
    index: Path, model: nn.Module, datasets: Mapping[str, DetectionDataset], name: str | None
) -> dict[str, dict[str, np.ndarray]]:
    file = index / INDEX
    if not file.exists():
        return {}
    anew = f"delete {file} to have it made anew, or name another folder"
    arrays = kept_arrays(file)
    if arrays is None or not {"model", "term", "parts"} <= arrays.keys():
        what = "is damaged" if arrays is None else "is of another version of detcenter"
        raise ConfigError(f"--index {index}: {INDEX} {what}; {anew}")
    if arrays["model"] != model_digest(model):
        raise ConfigError(f"--index {index} is of another checkpoint; {anew}")
    if arrays["term"] != name_of_term(model, name):
        read = f"what the term {str(arrays['term'])!r} reads"
        raise ConfigError(f"--index {index} has {read}; {anew}")
    parts = apart(arrays)
    for part, dataset in datasets.items():
        if part in parts and parts[part]["data"] != data_digest(dataset):
            raise ConfigError(f"--index {index}: data.{part} is not what it was made of; {anew}")
    return parts


def searched_in(
    model: nn.Module,
    datasets: Mapping[str, DetectionDataset],
    parts: Mapping[str, Mapping[str, np.ndarray]],
    name: str | None = None,
) -> Searched:
    """The boxes of ``parts``, which `known_features` gave.

    Raises:
        ConfigError: there are none, or their features are not finite.
    """
    found = joined_parts(parts)
    named = " and ".join(f"data.{part}" for part in parts)
    if not len(found["labels"]):
        raise ConfigError(f"{named}: no boxes to search in")
    if not np.isfinite(found["features"]).all():
        raise ConfigError(f"the features of {named} are not finite; the training has diverged")
    places = [(dataset, i) for dataset in datasets.values() for i in range(len(dataset))]
    on_sphere = measures_on_sphere(model, name)
    return Searched(
        unit(found["features"]) if on_sphere else found["features"],
        found["labels"],
        found["boxes"],
        found["images"],
        found["parts"].tolist(),
        [a["path"] for dataset in datasets.values() for a in dataset.annotations],
        places,
        on_sphere,
    )


def given_boxes(
    model: nn.Module,
    image: np.ndarray,
    boxes: Sequence[tuple[float, ...]],
    name: str | None = None,
) -> list[Query]:
    """``boxes``, xyxy in pixels of the image, uint8 [H, W, 3], to look for others like them."""
    pixels, scale = _as_taken(model, image)
    (features,) = box_features(model, pixels, [torch.tensor(boxes) / scale], name)
    directions = _measured(model, features, name)
    return [Query(*pair) for pair in zip(boxes, directions, strict=True)]


def detected_boxes(
    model: nn.Module, image: np.ndarray, score: float, name: str | None = None
) -> list[Query]:
    """The detections of at least this score in an image, likewise, the surest first."""
    pixels, scale = _as_taken(model, image)
    (found,) = detect_with_features(model, pixels, name)
    found = {key: values.cpu() for key, values in found.items()}
    order = found["scores"].argsort(descending=True, stable=True)
    order = order[(found["scores"][order] >= score) & (found["labels"][order] > 0)]
    columns = (
        map(tuple, (found["boxes"][order] * scale).tolist()),
        _measured(model, found["features"][order], name),
        found["labels"][order].tolist(),
        found["scores"][order].tolist(),
    )
    return [Query(*row) for row in zip(*columns, strict=True)]


def _as_taken(model: nn.Module, image: np.ndarray) -> tuple[list[Tensor], Tensor]:
    """An image as in training, and what its boxes are divided by."""
    size, (height, width) = input_size(model), image.shape[:2]
    small = resized(image, size_within(width, height, size)).transpose(2, 0, 1)
    device = next(model.parameters()).device
    pixels = as_floats([torch.from_numpy(np.ascontiguousarray(small))], device)
    return pixels, scale_back(width, height, size)


def _measured(model: nn.Module, features: Tensor, name: str | None) -> np.ndarray:
    rows = features.cpu().float().numpy()
    return unit(rows) if measures_on_sphere(model, name) else rows


def answers(searched: Searched, path: Path, queries: Sequence[Query], most: int) -> list[Answer]:
    """The nearest boxes to each query in the image file ``path``, ``most`` of them.

    A query's own box is left out if the image is one of those that are searched: of its annotated
    boxes that which the query overlaps most, if by an IoU of 0.5 or more.
    """
    same = _same_images(searched, path)
    own = [_own(searched, same, query.box) for query in queries]
    features = np.stack([query.feature for query in queries])
    left_out = [[] if row is None else [row] for row in own]
    found = nearest(searched.features, features, most, left_out)
    relations: dict[int, str | None] = dict.fromkeys(same, "same image")
    for image in {int(searched.images[row]) for of_query in found for row in of_query.rows}:
        if image not in relations:
            copied = _is_copy(path, *searched.places[image])
            relations[image] = "copy of the image" if copied else None
    return [
        Answer(query, row, _neighbours(searched, relations, *of_query))
        for query, row, of_query in zip(queries, own, found, strict=True)
    ]


def _neighbours(
    searched: Searched, relations: Mapping[int, str | None], rows: np.ndarray, far: np.ndarray
) -> list[Neighbour]:
    closeness = 1 - far**2 / 2 if searched.on_sphere else far
    of_rows = [relations[image] for image in searched.images[rows].tolist()]
    columns = rows.tolist(), closeness.tolist(), of_rows
    return [Neighbour(*row) for row in zip(*columns, strict=True)]


def _same_images(searched: Searched, path: Path) -> list[int]:
    """The numbers of the images that the file is; a part may name an image that another has."""
    alike = [k for k, other in enumerate(searched.paths) if other.name == path.name]
    return [k for k in alike if searched.paths[k].resolve() == path.resolve()]


def _own(searched: Searched, same: Sequence[int], box: tuple[float, ...]) -> int | None:
    rows = np.flatnonzero(np.isin(searched.images, same))
    if not len(rows):
        return None
    overlap = box_iou(np.array([box]), searched.boxes[rows].astype(np.float64))[0]
    return int(rows[overlap.argmax()]) if overlap.max() >= _ITSELF else None


def _is_copy(path: Path, dataset: DetectionDataset, place: int) -> bool:
    """Whether an image has the same bytes as a file, or Roboflow made both of one image."""
    content, name = dataset.source(place)
    stems = [file.name.partition(".rf.") for file in (path, name)]
    if stems[0][1] and stems[0][:2] == stems[1][:2]:
        return True
    if isinstance(content, bytes):
        return content == path.read_bytes()
    return filecmp.cmp(path, content, shallow=False)
