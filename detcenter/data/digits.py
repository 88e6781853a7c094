"""The embedded data set: scenes of real handwritten digits, made from a seed in seconds."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from detcenter.data.errors import DataError

SCENE = 160  # pixels a side
DIGIT_SIZES = (20, 60)  # pixels a side, smallest and largest
MOST_OVERLAP = 0.05  # IoU of two boxes of one scene
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


def make_digits(root: str | Path, train: int = 400, val: int = 200, seed: int = 0) -> None:
    """Make `train` and `val` scenes of 160x160 pixels with 2 to 6 digits each, in VOC's layout.

    The 1,797 handwritten digits that scikit-learn carries (8x8 pixels) are split apart, two thirds
    for train and one for val, so that no digit of a val scene was seen in training. Classes are
    "0" to "9"; image sets are "train" and "val". Equal arguments give equal scenes. The folder
    appears only when it is whole; one that holds the same set already is left as it is.

    Raises:
        DataError: `root` holds something else.
    """
    root = Path(root)
    record = {"recipe": _RECIPE, "train": train, "val": val, "seed": seed}
    if _holds(root, record):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        _write_set(making, {"train": train, "val": val}, seed)
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
    images: np.ndarray, digits: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One scene: uint8 [160, 160, 3], boxes int64 [M, 4] xyxy tight around the ink, digits [M].

    Args:
        images: [S, 8, 8] in 0..1, to draw from.
        digits: [S].
    """
    scene = _background(rng)
    boxes = np.zeros((0, 4), dtype=np.int64)
    names = []
    while len(boxes) < 2:  # a crowded start may leave no room for a second one: go on trying
        for _ in range(int(rng.integers(2, 7)) - len(boxes)):
            sample = int(rng.integers(len(images)))
            ink = _enlarged(images[sample], int(rng.integers(DIGIT_SIZES[0], DIGIT_SIZES[1] + 1)))
            box = _free_place(ink, boxes, rng)
            if box is not None:
                _draw(scene, ink, box, rng)
                boxes = np.concatenate([boxes, box[None]])
                names.append(int(digits[sample]))
    return scene.clip(0, 255).astype(np.uint8), boxes, np.array(names)


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


def _write_set(root: Path, counts: dict[str, int], seed: int) -> None:
    images, digits = _samples()
    split = split_samples(seed)
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for stream, (name, count) in enumerate(counts.items()):
        rng = np.random.default_rng([seed, stream])
        chosen = split[name]
        names = [f"{name}_{number:05d}" for number in range(1, count + 1)]
        for scene_name in names:
            _write_scene(root, scene_name, *make_scene(images[chosen], digits[chosen], rng))
        lines = "".join(f"{scene_name}\n" for scene_name in names)
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(lines)


def _write_scene(
    root: Path, name: str, scene: np.ndarray, boxes: np.ndarray, digits: np.ndarray
) -> None:
    filename = f"{name}.jpg"
    Image.fromarray(scene).save(root / "JPEGImages" / filename, quality=95, subsampling=0)
    inclusive = boxes + [1, 1, 0, 0]  # VOC counts pixels from 1 and includes the last
    objects = "".join(
        _OBJECT.format(*box, name=digit) for box, digit in zip(inclusive, digits, strict=True)
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
