"""`detcenter audit apply`: a data set with single boxes changed, beside the one it is made from."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detcenter.data import Annotation, DetectionDataset, Fault
from detcenter.data.dataset import clean_boxes
from detcenter.data.images import is_image
from detcenter.data.layouts.corrected import (
    coco,
    cvat,
    label_studio,
    labelme,
    table,
    voc,
    yolo,
)
from detcenter.data.layouts.corrected.changes import Changed, Correction, NotThere, stays
from detcenter.data.layouts.files import Files, leads_out
from detcenter.data.layouts.written import link_image
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.fixed import check_empty
from detcenter.recipe.layouts import Part, read_labelled, resolved

_ANNOTATING = (
    ".xml",
    ".txt",
    ".json",
    ".yaml",
    ".yml",
    ".csv",
    ".tsv",
    ".names",
    ".data",
    ".labels",
)


def write_corrected(
    data: DataConfig, corrections: Mapping[str, Sequence[Correction]], out: Path
) -> Counter[str]:
    """Write ``out`` as a data set in the same layout, with links to the images.

    A recipe fits it with ``data.root`` changed to ``out``.

    Args:
        corrections: of each image that is changed, by its name below ``data.root``.

    Returns:
        What was changed, and how often.

    Raises:
        ConfigError: a box that is not there; nothing is written then.
    """
    data = resolved(data)
    if data.format == "lmdb":
        raise ConfigError(
            "data.format lmdb: a packed data set is not corrected; audit the one that it was "
            "packed from"
        )
    check_empty("--output", out)
    root = Path(data.root)
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"--output {out} is inside data.root {root}; name a folder outside")
    for key in ("train", "val", "train_images", "val_images"):
        value = getattr(data, key)
        if isinstance(value, str) and leads_out(value):
            raise ConfigError(f"data.{key}: the name {value!r} leads out of data.root {root}")
    files = Files(root)
    try:
        made = _made(files, data, corrections)
    except NotThere as error:
        name = error.image.relative_to(root).as_posix()
        raise _other_data(f"{name} has {error.what}", root) from None
    _write(files, made, out)
    every = (change for changes in corrections.values() for change in changes)
    return Counter(what for change in every if (what := _what(change)))


def _made(
    files: Files, data: DataConfig, corrections: Mapping[str, Sequence[Correction]]
) -> dict[str, bytes]:
    """The files that change, by their names below the root."""
    images, classes, categories = list[Changed](), data.classes, dict[str, dict[str, int | str]]()
    left = dict(corrections)
    parts: tuple[Part, ...] = ("train", "val")
    for part in parts:
        read = read_labelled(data, part, classes, faults := list[Fault]())
        if faults and data.on_error == "raise":
            raise ConfigError(f"{faults[0]}; `detcenter check` lists all that is at fault")
        classes = read.classes
        dataset = DetectionDataset(read.annotations, classes, categories=read.categories)
        named = str(data.train if part == "train" or isinstance(data.val, float) else data.val)
        categories[named] = dict(zip(dataset.classes, dataset.category_ids, strict=True))
        for annotation in dataset.annotations:
            path, root = annotation["path"], files.root
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
            if name in left:
                changes = _inside(left.pop(name), annotation, files.root)
                images.append(Changed(annotation, named, changes))
    _check_known(corrections, left, classes or [], files.root)
    if data.format == "coco":
        return coco.corrected(files, images, categories)
    if data.format == "yolo":
        return yolo.corrected(files, images, data.classes)
    by_names = {
        "cvat": cvat.corrected,
        "label_studio": label_studio.corrected,
        "labelme": labelme.corrected,
        "table": table.corrected,
    }
    if data.format in by_names:
        return by_names[data.format](files, images)
    return voc.corrected(files, images, classes or [])


def _check_known(
    corrections: Mapping[str, Sequence[Correction]],
    without_image: Mapping[str, Sequence[Correction]],
    classes: Sequence[str],
    root: Path,
) -> None:
    if without_image:
        raise _other_data(f"there is no image {next(iter(without_image))}", root)
    labels = {change.new_label for of in corrections.values() for change in of} - {None}
    strange = sorted(str(label) for label in labels if label not in classes)
    if strange:
        raise _other_data(f"there is no class {strange[0]!r}", root)


def _inside(
    corrections: Sequence[Correction], annotation: Annotation, root: Path
) -> list[Correction]:
    """With new boxes cut to the image; one outside of it would be read as none."""
    width, height = annotation["width"], annotation["height"]
    inside = []
    for change in corrections:
        if change.new_box is not None:
            (box,), (there,) = clean_boxes(np.array([change.new_box], np.float64), width, height)
            if not there:
                corners = ", ".join(f"{x:g}" for x in change.new_box)
                raise _other_data(f"[{corners}] is outside of {annotation['path'].name}", root)
            change = change._replace(new_box=box.tolist())
        inside.append(change)
    return inside


def _other_data(why: str, root: Path) -> ConfigError:
    return ConfigError(
        f"the decisions do not fit data.root {root}: {why}; they are of other data, or it has "
        "changed since. Nothing was written"
    )


def _write(files: Files, made: Mapping[str, bytes], out: Path) -> None:
    """Links to the images, copies of annotation files, and those that were made instead."""
    for name in files.names:
        if name in made:
            continue
        if is_image(name):
            link_image(files.root / name, out / name)
        elif name.lower().endswith(_ANNOTATING):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files.root / name, out / name)
    for name, content in made.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)


def _what(change: Correction) -> str | None:
    if change.box is None:
        return "boxes added"
    if change.new_box is None:
        return "boxes removed"
    moved, other = not stays(change), change.label != change.new_label
    if moved and other:
        return "boxes moved, with another label"
    return "boxes moved" if moved else "labels changed" if other else None
