"""Scenes of handwritten digits: the pictures of the embedded data set."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

SCENE = 160  # pixels a side
DIGIT_SIZES = (20, 60)  # pixels a side, smallest and largest
MOST_OVERLAP = 0.05  # IoU of two boxes of one scene
STYLES = ("plain", "hollow", "striped", "underlined")


def make_scene(
    images: np.ndarray,
    digits: np.ndarray,
    rng: np.random.Generator,
    classes: Sequence[tuple[int, str]],
    frequencies: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One scene: uint8 [160, 160, 3], boxes int64 [M, 4] xyxy tight around the ink, and places
    in `classes` [M].

    Args:
        images: [S, 8, 8] in 0..1, to draw from.
        digits: [S].
        classes: C pairs of a digit and a style of `STYLES`.
        frequencies: [C], of classes in proportion; None draws every image alike.
    """
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
