"""The features of a data set's boxes, and what a run keeps of them."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from detcenter.analysis import compactness
from detcenter.data import DetectionDataset
from detcenter.data.annotations import Annotations
from detcenter.data.checks import look_at
from detcenter.data.dataset import learnable
from detcenter.errors import ConfigError
from detcenter.evaluation.detections import save_arrays
from detcenter.losses import CenterLoss
from detcenter.models import terms_of
from detcenter.progress import bar
from detcenter.recipe.config import Config
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.collapse import on_unit_sphere
from detcenter.runs.folder import DAMAGED, LAST
from detcenter.runs.passes import features_in, input_size
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
        found = part_features(dataset, model, config.data.workers, progress=progress)
        save_features(path, {"val": found}, dataset.classes, model)
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


def part_features(
    dataset: DetectionDataset,
    model: nn.Module,
    workers: int,
    name: str | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, np.ndarray]:
    """What `features_in` finds in a part of a data set, and which boxes these are.

    Of its M images there are ``files`` [M] and ``sizes`` [M, 2], width and height in pixels; and
    ``data``, what `data_digest` gives.
    """
    found = features_in(dataset, model, _BATCH, workers, name, progress)
    return found | {
        "files": np.array([str(annotation["path"]) for annotation in dataset.annotations]),
        "sizes": Annotations(dataset.annotations).sizes,
        "data": np.array(data_digest(dataset)),
    }


def joined_parts(parts: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `part_features` gives of several parts, by their names, as one.

    ``parts`` [M] has the part of each image; the ``data`` of each is ``data_train``, say.
    """
    counts = [len(part["files"]) for part in parts.values()]
    joined = {
        key: _concatenated([part[key] for part in parts.values()])
        for key in ("features", "labels", "boxes", "files", "sizes")
    }
    starts = np.cumsum([0, *counts[:-1]])
    images = [part["images"] + start for part, start in zip(parts.values(), starts, strict=True)]
    joined |= {"images": np.concatenate(images), "parts": np.repeat([*parts], counts)}
    return joined | {f"data_{name}": part["data"] for name, part in parts.items()}


def _concatenated(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """A single one is no copy: it may fill half of the memory."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def apart(joined: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """What `joined_parts` has put together, by the names of the parts; views, no copies."""
    parts = {}
    for name in dict.fromkeys(joined["parts"].tolist()):
        places = np.flatnonzero(joined["parts"] == name)
        of_images = slice(int(places[0]), int(places[-1]) + 1)
        of_boxes = slice(*np.searchsorted(joined["images"], [of_images.start, of_images.stop]))
        part = {key: joined[key][of_boxes] for key in ("features", "labels", "boxes")}
        part |= {key: joined[key][of_images] for key in ("files", "sizes")}
        part["images"] = joined["images"][of_boxes] - of_images.start
        parts[name] = part | {"data": joined[f"data_{name}"]}
    return parts


def save_features(
    path: Path,
    parts: Mapping[str, Mapping[str, np.ndarray]],
    classes: Sequence[str],
    model: nn.Module,
    name: str | None = None,
) -> None:
    """What `part_features` gives, and what it takes to read it: ``np.load(path)`` needs no pickle.

    docs/similar.md says what the arrays are.
    """
    save_arrays(path, joined_parts(parts) | described(classes, model, name), compressed=False)


def described(
    classes: Sequence[str], model: nn.Module, name: str | None = None
) -> dict[str, np.ndarray]:
    """Whose features they are: what the term ``name`` reads, and where it measures."""
    term, centers = terms_of(model).named(name), centers_of(model, name)
    about = {
        "classes": np.array(classes),
        "term": np.array(name_of_term(model, name)),
        "embedded": np.array(term is not None and term.embedded),
        "on_sphere": np.array(measures_on_sphere(model, name)),
        "model": np.array(model_digest(model)),
    }
    return about if centers is None else about | {"centers": centers}


def name_of_term(model: nn.Module, name: str | None = None) -> str:
    """That of the first term where no ``name`` is given; "" where there is none."""
    names = [known for known, _ in terms_of(model).terms()]
    return name or (names[0] if names else "")


def model_digest(model: nn.Module) -> str:
    """12 hexadecimal digits: equal for equal weights and sizes of images."""
    digest = hashlib.blake2b(repr(input_size(model)).encode())
    for name, values in sorted(model.state_dict().items()):
        raw = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(name.encode() + raw.numpy().tobytes())
    return digest.hexdigest()[:12]


def data_digest(dataset: DetectionDataset) -> str:
    """12 hexadecimal digits: equal for the same images, by name and content, with the same boxes.

    It does not matter where the images are.
    """
    annotations = Annotations(dataset.annotations)
    paths = [annotations.path(place) for place in range(len(annotations))]
    columns = annotations.columns
    chosen = learnable(columns, dataset.keep_difficult)  # type: ignore[arg-type]
    names = [*dataset.classes, "", *(path.name for path in paths)]
    digest = hashlib.blake2b("\n".join(names).encode("utf-8", "surrogateescape"))
    for values in (
        annotations.image,
        annotations.sizes,
        chosen,
        columns["boxes"],
        columns["labels"],
    ):
        digest.update(np.ascontiguousarray(values).tobytes())
    for content in _contents(dataset, paths):
        digest.update(content)
    return digest.hexdigest()[:12]


def _contents(dataset: DetectionDataset, paths: Sequence[Path]) -> list[bytes]:
    """Digests of the images' files, which are known since the data set was read; or versions."""
    if all(path.is_file() for path in paths):
        looks = look_at(paths)
        return [looks[path].digest for path in paths]
    return [dataset.version(place).encode() for place in range(len(paths))]  # of a packed one


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
