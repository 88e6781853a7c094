"""What a person decided on the page of an audit, read from the file that the page gives."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detcenter.data.layouts.corrected.changes import Correction
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.layouts import resolved

_OF_DATA = (
    "format",
    "root",
    "train",
    "val",
    "val_seed",
    "train_images",
    "val_images",
    "classes",
    "keep_difficult",
    "on_error",
)
"""Keys of a data section by which the same boxes are read again."""


def data_of_audit(data: DataConfig) -> dict[str, Any]:
    """What a page and its decisions have to know of the data set."""
    values = dataclasses.asdict(resolved(data))
    known = {key: values[key] for key in _OF_DATA} | {"root": str(Path(data.root).resolve())}
    return known | {"format": "voc"} if data.format == "digits" else known  # as they are made


def decided(file: Path, root: str | None) -> tuple[DataConfig, dict[str, list[Correction]]]:
    """The data set that decisions are of, and what they change, by the names of images.

    Args:
        root: where the data set is now; None: where it was.

    Raises:
        ConfigError: the file is no such file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        data = DataConfig(**{key: content["data"][key] for key in _OF_DATA})
        accepted = [row for row in content["decisions"] if row["decision"] != "reject"]
        changes: dict[str, list[Correction]] = {}
        for (image, _), change in _by_box(accepted).items():
            changes.setdefault(image, []).append(change)
    except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ConfigError(
            f"{file} is no file of decisions, which the page of an audit gives ({what})"
        ) from None
    data.root = root or data.root
    return data, changes


def _correction(decision: dict[str, Any]) -> Correction:
    missing = decision["kind"] == "missing"
    box, new_box = (_box(decision[key]) for key in ("box", "new_box"))
    if box is None:
        raise ValueError("a decision without a box")
    return Correction(None if missing else box, decision["label"], new_box, decision["new_label"])


def _by_box(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, Any], Correction]:
    """One correction of each box, by its image and its number there.

    A person may have said that a box lies badly, and that its label is wrong. Each that is missing
    is a box of its own.
    """
    found: dict[tuple[str, Any], Correction] = {}
    for place, row in enumerate(rows):
        change = _correction(row)
        number = ("new", place) if change.box is None else int(row["number"])
        key = str(row["image"]), number
        found[key] = _both(found[key], change) if key in found else change
    return found


def _both(first: Correction, second: Correction) -> Correction:
    """Removed if either says so; else moved as one says, and under the label that one says."""
    if first.new_box is None or second.new_box is None:
        return first._replace(new_box=None, new_label=None)
    box = second.new_box if first.new_box == first.box else first.new_box
    label = second.new_label if first.new_label == first.label else first.new_label
    return first._replace(new_box=box, new_label=label)


def _box(corners: Any) -> list[float] | None:
    if corners is None:
        return None
    x1, y1, x2, y2 = map(float, corners)
    if not x1 < x2 or not y1 < y2:
        raise ValueError(f"{[x1, y1, x2, y2]} is no box")
    return [x1, y1, x2, y2]
