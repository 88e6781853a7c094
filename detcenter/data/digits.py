"""The embedded data set: scenes of real handwritten digits, made from a seed in seconds."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detcenter.data.errors import DataError
from detcenter.data.layouts.voc_written import voc_page
from detcenter.data.scenes import SCENE, STYLES, make_scene

_RECORD = "digits.json"  # what the set was made from
_RECIPE = 1  # to be raised when the scenes change


def make_digits(
    root: str | Path,
    train: int = 400,
    val: int = 200,
    seed: int = 0,
    *,
    digits: Sequence[int] = tuple(range(10)),
    styles: Sequence[str] = ("plain",),
    imbalance: float = 1.0,
    wrong_labels: float = 0.0,
) -> None:
    """Make `train` and `val` scenes of 160x160 pixels with 2 to 6 digits each, in VOC's layout.

    The 1,797 handwritten digits that scikit-learn carries (8x8 pixels) are split apart, two thirds
    for train and one for val, so that no digit of a val scene was seen in training. Image sets are
    "train" and "val". Equal arguments give equal scenes, and val scenes do not depend on what
    concerns train alone. The folder appears only when it is whole; one that holds the same set
    already is left as it is.

    Args:
        digits: those that are drawn, 0 to 9. Classes are "0" to "9".
        styles: of `STYLES`; every digit in every style is a class, "7" being plain and
            "7-hollow" not.
        imbalance: how many times as frequent in train the first class is as the last one; between
            them frequency falls by a constant factor (Cui et al., CVPR 2019). In val all classes
            are as frequent. 1 is without.
        wrong_labels: part of the boxes in train, 0 to 1, that bear a class drawn from the others.
            The scenes stay as they are.

    Raises:
        DataError: `root` holds something else.
        ValueError: an argument out of its range.
    """
    root = Path(root)
    _check_set(digits, styles, imbalance, wrong_labels)
    record: dict[str, Any] = {"recipe": _RECIPE, "train": train, "val": val, "seed": seed}
    unusual = {
        "digits": (list(digits), list(range(10))),
        "styles": (list(styles), ["plain"]),
        "imbalance": (imbalance, 1),
        "wrong_labels": (wrong_labels, 0),
    }
    record |= {name: value for name, (value, usual) in unusual.items() if value != usual}
    if _holds(root, record):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        classes = [(digit, style) for digit in digits for style in styles]
        frequencies = np.geomspace(imbalance, 1, len(classes)) if imbalance != 1 else None
        _write_set(making, "train", train, seed, classes, frequencies, wrong_labels)
        _write_set(making, "val", val, seed, classes)
        (making / _RECORD).write_text(json.dumps(record) + "\n")
        making.chmod(0o755)  # mkdtemp's own is for one user only
        _move(making, root, record)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def split_samples(seed: int) -> dict[str, np.ndarray]:
    """Indices of the handwritten digits used in "train" (two thirds) and "val", a third."""
    digits, rng = _samples()[1], np.random.default_rng(seed)
    split: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    for digit in range(10):
        indices = rng.permutation(np.flatnonzero(digits == digit))
        third = len(indices) // 3
        split["val"].append(indices[:third])
        split["train"].append(indices[third:])
    return {name: np.concatenate(parts) for name, parts in split.items()}


def _check_set(
    digits: Sequence[int], styles: Sequence[str], imbalance: float, wrong_labels: float
) -> None:
    if not digits or len(set(digits)) < len(digits) or not set(digits) <= set(range(10)):
        raise ValueError(f"digits are different ones of 0 to 9, not {list(digits)}")
    if not styles or len(set(styles)) < len(styles) or not set(styles) <= set(STYLES):
        raise ValueError(f"styles are different ones of {', '.join(STYLES)}, not {list(styles)}")
    if not 1 <= imbalance < np.inf:
        raise ValueError(f"imbalance is from 1 up, not {imbalance}")
    if not 0 <= wrong_labels <= 1 or (wrong_labels and len(digits) * len(styles) < 2):
        raise ValueError(f"wrong_labels is a part from 0 to 1 of two classes, not {wrong_labels}")


def _samples() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # slow to import, and needed only here

    data = load_digits()
    return data.images / 16.0, data.target


def _holds(root: Path, record: dict[str, int]) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / _RECORD).read_text())
    except (OSError, ValueError):
        raise DataError(f"{root}: not empty and no digits data set; choose another root") from None
    if found != record:
        message = f"{root}: holds digits made from {found}, not {record}"
        raise DataError(f"{message}; remove it or choose another root")
    return True


def _move(making: Path, root: Path, record: dict[str, int]) -> None:
    try:
        making.rename(root)
    except OSError:  # another process was first, which is as good if it made the same
        if not _holds(root, record):
            raise


def _write_set(
    root: Path,
    name: str,
    count: int,
    seed: int,
    classes: Sequence[tuple[int, str]],
    frequencies: np.ndarray | None = None,
    wrong_labels: float = 0.0,
) -> None:
    images, digits = _samples()
    chosen = split_samples(seed)[name]
    chosen = chosen[np.isin(digits[chosen], [digit for digit, _ in classes])]
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    stream = ("train", "val").index(name)
    rng, mistakes = np.random.default_rng([seed, stream]), np.random.default_rng([seed, 2])
    names = [f"{digit}" if style == "plain" else f"{digit}-{style}" for digit, style in classes]
    scenes = [f"{name}_{number:05d}" for number in range(1, count + 1)]
    for scene_name in scenes:
        scene, boxes, found = make_scene(images[chosen], digits[chosen], rng, classes, frequencies)
        if wrong_labels:
            found = _mistaken(found, len(classes), wrong_labels, mistakes)
        _write_scene(root, scene_name, scene, boxes, [names[number] for number in found])
    lines = "".join(f"{scene_name}\n" for scene_name in scenes)
    (root / "ImageSets" / "Main" / f"{name}.txt").write_text(lines)


def _mistaken(
    found: np.ndarray, num_classes: int, part: float, rng: np.random.Generator
) -> np.ndarray:
    wrong = rng.random(len(found)) < part
    others = (found + rng.integers(1, num_classes, size=len(found))) % num_classes
    return np.where(wrong, others, found)


def _write_scene(
    root: Path, name: str, scene: np.ndarray, boxes: np.ndarray, classes: Sequence[str]
) -> None:
    filename = f"{name}.jpg"
    Image.fromarray(scene).save(root / "JPEGImages" / filename, quality=95, subsampling=0)
    plain = np.zeros(len(boxes), dtype=bool)
    page = voc_page(filename, (SCENE, SCENE), boxes, classes, difficult=plain)
    (root / "Annotations" / f"{name}.xml").write_text(page)
