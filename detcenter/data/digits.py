"""The embedded data set: scenes of real handwritten digits, made from a seed in seconds."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from detcenter.data.errors import DataError

SCENE = 160  # pixels a side
DIGIT_SIZES = (20, 60)  # pixels a side, smallest and largest
MOST_OVERLAP = 0.05  # IoU of two boxes of one scene
STYLES = ("plain", "hollow", "striped", "underlined")
_RECORD = "digits.json"  # what the set was made from
_RECIPE = 1  # to be raised when the scenes change

_OBJECT = """  <object>
    <name>{name}</name>
    <difficult>0</difficult>
    <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
  </object>
"""
_PAGE = """<annotation>
  <filename>{filename}</filename>
  <size><width>{side}</width><height>{side}</height><depth>3</depth></size>
{objects}</annotation>
"""


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


def make_scene(
    images: np.ndarray,
    digits: np.ndarray,
    rng: np.random.Generator,
    classes: Sequence[tuple[int, str]] | None = None,
    frequencies: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One scene: uint8 [160, 160, 3], boxes int64 [M, 4] xyxy tight around the ink, and places
    in `classes` [M].

    Args:
        images: [S, 8, 8] in 0..1, to draw from.
        digits: [S].
        classes: C pairs of a digit and a style; None for those of `digits`, plain.
        frequencies: [C], of classes in proportion; None draws every image alike.
    """
    classes = classes or [(int(digit), "plain") for digit in np.unique(digits)]
    place = {of: number for number, of in enumerate(classes)}
    styles = sorted({style for _, style in classes}, key=STYLES.index)
    scene = _background(rng)
    boxes = np.zeros((0, 4), dtype=np.int64)
    found = []
    while len(boxes) < 2:  # a crowded start may leave no room for a second one: go on trying
        for _ in range(int(rng.integers(2, 7)) - len(boxes)):
            if frequencies is None:
                sample = int(rng.integers(len(images)))
                style = styles[rng.integers(len(styles))] if len(styles) > 1 else styles[0]
            else:
                digit, style = classes[rng.choice(len(classes), p=frequencies / frequencies.sum())]
                sample = int(rng.choice(np.flatnonzero(digits == digit)))
            side = int(rng.integers(DIGIT_SIZES[0], DIGIT_SIZES[1] + 1))
            ink = _styled(_enlarged(images[sample], side), style, side)
            box = _free_place(ink, boxes, rng)
            if box is not None:
                _draw(scene, ink, box, rng)
                boxes = np.concatenate([boxes, box[None]])
                found.append(place[int(digits[sample]), style])
    return scene.clip(0, 255).astype(np.uint8), boxes, np.array(found)


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
    inclusive = boxes + [1, 1, 0, 0]  # VOC counts pixels from 1 and includes the last
    objects = "".join(
        _OBJECT.format(*box, name=of) for box, of in zip(inclusive, classes, strict=True)
    )
    page = _PAGE.format(filename=filename, side=SCENE, objects=objects)
    (root / "Annotations" / f"{name}.xml").write_text(page)


def _background(rng: np.random.Generator) -> np.ndarray:
    """float32 [160, 160, 3]: a gradient between two near colours, blotches, and fine noise."""
    first = rng.uniform(40, 215, size=3)
    second = np.clip(first + rng.uniform(-50, 50, size=3), 20, 235)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-0.5 : 0.5 : SCENE * 1j, -0.5 : 0.5 : SCENE * 1j]
    ramp = 0.5 + 0.7 * (x * np.cos(angle) + y * np.sin(angle))
    scene = first + (second - first) * ramp[..., None]
    scene += _blotches(rng)[..., None]
    scene += rng.normal(0, rng.uniform(2, 10), size=scene.shape)
    return scene.astype(np.float32)


def _blotches(rng: np.random.Generator) -> np.ndarray:
    """[160, 160]: coarse noise, smoothed by enlarging, so that not all that is large is ink."""
    cells = int(rng.integers(3, 20))
    coarse = rng.normal(0, rng.uniform(2, 14), size=(cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((SCENE, SCENE), Image.Resampling.BICUBIC))


def _enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """The ink's opacity in 0..1, enlarged to about `side` pixels and cut to the ink."""
    large = Image.fromarray(image.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.clip((np.asarray(large) - 0.35) / 0.4, 0, 1)  # sharper edges than interpolation gives
    rows = np.flatnonzero((ink > 0.5).any(axis=1))
    columns = np.flatnonzero((ink > 0.5).any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _styled(ink: np.ndarray, style: str, side: int) -> np.ndarray:
    """The ink [H, W] of a digit of `side` pixels in one of `STYLES`."""
    if style == "hollow":
        line = max(1, side // 24)
        padded = Image.fromarray((np.pad(ink, line) * 255).astype(np.uint8))
        core = np.asarray(padded.filter(ImageFilter.MinFilter(2 * line + 1))) / 255
        return np.asarray(ink - core[line:-line, line:-line])
    if style == "striped":
        period = max(4, side // 6)
        gaps = np.arange(len(ink)) % period >= period - period // 2
        gaps[-1] = False  # the box stays tight
        return np.where(gaps[:, None], 0, ink)
    if style == "underlined":
        thick = max(2, side // 10)
        below = np.repeat([0.0, 1.0], thick)[:, None]
        return np.vstack([ink, np.tile(below, ink.shape[1])])
    return ink


def _free_place(ink: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A box [4] for the ink that hardly overlaps the others, or None after 20 trials."""
    height, width = ink.shape
    for _ in range(20):
        left = int(rng.integers(0, SCENE - width + 1))
        top = int(rng.integers(0, SCENE - height + 1))
        box = np.array([left, top, left + width, top + height])
        if (_iou(box, boxes) <= MOST_OVERLAP).all():
            return box
    return None


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = sides.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return common / ((box[2:] - box[:2]).prod() + areas - common)


def _draw(scene: np.ndarray, ink: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> None:
    """Lay the ink on the scene, in place, in a colour that stands out from what is below."""
    left, top, right, bottom = box
    patch = scene[top:bottom, left:right]
    below = patch.mean(axis=(0, 1))
    lighter = below.mean() < rng.uniform(90, 165)
    step = rng.uniform(60, 150) * (1 if lighter else -1)
    colour = np.clip(below + step + rng.uniform(-40, 40, size=3), 0, 255)
    opacity = ink[..., None]
    patch += opacity * (colour - patch)
