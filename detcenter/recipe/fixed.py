"""`detcenter check --fix OUT`: a data set without its faults, beside the one it was made from."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ElementTree

from detcenter.data import DetectionDataset
from detcenter.data.layouts import voc_lists
from detcenter.data.layouts.cleaned import cleaned_coco, cleaned_voc
from detcenter.data.layouts.files import Files, leads_out
from detcenter.data.layouts.written import link_image
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.layouts import Part


def check_new(data: DataConfig, out: Path) -> None:
    """Before a check that may take long: whether it is clear where to write, and what.

    Raises:
        ConfigError: nothing is ever overwritten.
    """
    if data.format not in ("auto", "voc", "coco"):
        raise ConfigError(f"--fix is for data.format voc and coco, not for {data.format}")
    check_empty("--fix", out)
    for key in ("train", "val", "train_images", "val_images"):
        value = getattr(data, key)
        if isinstance(value, str) and leads_out(value):
            raise ConfigError(f"data.{key}: the name {value!r} leads out of {out}")


def check_empty(what: str, out: Path) -> None:
    """Before anything is written there; ``what`` is the argument that names ``out``.

    Raises:
        ConfigError: it is not a new or empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{what} {out}: exists and is not an empty folder; name a new one")


def write_fixed(data: DataConfig, parts: dict[Part, DetectionDataset], out: Path) -> dict[str, int]:
    """Write ``out`` as a data set in the same layout, with links to the images.

    The recipe fits it with ``data.root`` changed to ``out``. ``data`` is resolved.

    Returns:
        What was changed beside what is at fault, and how often.
    """
    root, changes = Path(data.root), Counter[str]()
    if isinstance(data.val, float):  # both parts are of one file
        of_files = {(data.train, data.train_images): [*parts.values()]}
    else:
        of_files = {(data.train, data.train_images): [parts["train"]]}
        of_files |= {(data.val, data.val_images): [parts["val"]]}
    for (name, images), datasets in of_files.items():
        for annotation in (a for dataset in datasets for a in dataset.annotations):
            link_image(annotation["path"], out / annotation["path"].relative_to(root))
        assert name is not None  # it is resolved
        if data.format == "coco":
            folder = root / (images or "")
            _write_json(out / name, cleaned_coco(root / name, folder, datasets, changes))
        else:
            _write_voc(Files(root), name, datasets, out, changes)
    return {what: number for what, number in changes.items() if number}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_voc(
    files: Files,
    part: str,
    datasets: list[DetectionDataset],
    out: Path,
    changes: Counter[str],
) -> None:
    kept: set[Path] = set()
    for dataset in datasets:
        for annotation in dataset.annotations:
            file = annotation["file"]
            kept.add(file)
            tree = cleaned_voc(file, annotation, dataset.classes, changes)
            target = out / file.relative_to(files.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if tree is None:
                shutil.copyfile(file, target)
            else:
                ElementTree(tree).write(target, encoding="utf-8", xml_declaration=True)
    listed = voc_lists.list_of(files, part)
    if listed is not None:
        target = out / listed
        target.parent.mkdir(parents=True, exist_ok=True)
        entries = [e for e in voc_lists.listed(files, part) if files.root / e.page in kept]
        names = dict.fromkeys(entry.name for entry in entries)
        target.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
