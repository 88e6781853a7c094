"""`detcenter check --fix OUT`: a data set without its faults, beside the one it was made from."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ElementTree

from detcenter.data import COCODataset, DetectionDataset, VOCDataset
from detcenter.data.layouts.cleaned import cleaned_coco, cleaned_voc
from detcenter.data.layouts.paths import path_below
from detcenter.data.layouts.voc import annotation_path, image_set_path, read_image_set
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import Part


def check_new(data: DataConfig, out: Path) -> None:
    """Before a check that may take long: whether it is clear where to write, and what.

    Raises:
        ConfigError: nothing is ever overwritten.
    """
    if data.format not in ("voc", "coco"):
        raise ConfigError(f"--fix is for data.format voc and coco, not for {data.format}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--fix {out}: exists and is not an empty folder; name a new one")
    for key in ("train", "val", "train_images", "val_images"):
        path_below(out, getattr(data, key), Path(f"data.{key}"))


def write_fixed(data: DataConfig, parts: dict[Part, DetectionDataset], out: Path) -> dict[str, int]:
    """Write ``out`` as a data set in the same layout, with links to the images.

    The recipe fits it with ``data.root`` changed to ``out``.

    Returns:
        What was changed beside what is at fault, and how often.
    """
    root, changes = Path(data.root), Counter[str]()
    for part, dataset in parts.items():
        name = getattr(data, part)
        if isinstance(dataset, COCODataset):
            images = getattr(data, f"{part}_images")
            content = cleaned_coco(root / name, root / images, dataset, changes)
            _write_json(out / name, content)
        elif isinstance(dataset, VOCDataset):
            images = "JPEGImages"
            _write_voc(root, name, dataset, out, changes)
        for annotation in dataset.annotations:
            below = annotation["path"].relative_to(root / images)
            _link(annotation["path"], out / images / below)
    return {what: number for what, number in changes.items() if number}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_voc(
    root: Path, image_set: str, dataset: VOCDataset, out: Path, changes: Counter[str]
) -> None:
    listed, every = image_set_path(root, image_set), read_image_set(root, image_set)
    names = [every[int(annotation["image_id"]) - 1] for annotation in dataset.annotations]
    for name, annotation in zip(names, dataset.annotations, strict=True):
        file = annotation_path(root, name, listed)
        tree = cleaned_voc(file, annotation, dataset.classes, changes)
        target = out / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if tree is None:
            shutil.copyfile(file, target)
        else:
            ElementTree(tree).write(target, encoding="utf-8", xml_declaration=True)
    target = image_set_path(out, image_set)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _link(image: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # of an image that is in both parts
        return
    try:
        target.symlink_to(image.resolve())
    except OSError:  # a file system without links
        shutil.copyfile(image, target)
