"""Where to look: windows for zooming out and cropping as SSD does, in whole pixels."""

import numpy as np


def zoom_out(window: np.ndarray, max_zoom: float, rng: np.random.Generator) -> np.ndarray:
    """A window 1 to `max_zoom` times as large that holds `window` somewhere inside."""
    size = window[2:] - window[:2]
    larger = (size * rng.uniform(1, max_zoom)).astype(int)
    corner = window[:2] - (rng.random(2) * (larger - size)).astype(int)
    return np.concatenate([corner, corner + larger])


def iou_crop(
    window: np.ndarray,
    boxes: np.ndarray,
    min_ious: tuple[float, ...],
    min_scale: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """A random part of the window that shows something, by the rules of SSD.

    As `torchvision.transforms.v2.RandomIoUCrop`, 40 trials at once: one of `min_ious` is drawn;
    1.0 takes the whole window; otherwise some box whose centre is inside must overlap the part
    with that IoU, or another is drawn. Without boxes the window stays whole.

    Args:
        window: int [4], xyxy.
        boxes: [M, 4], xyxy.
    """
    for _ in range(50 if len(boxes) else 0):
        min_iou = min_ious[int(rng.integers(len(min_ious)))]
        if min_iou >= 1:
            break
        crops = _draw_crops(window, min_scale, rng)
        ious = np.where(centres_in(crops, boxes), _iou(crops, boxes), -1.0)
        good = np.flatnonzero((ious >= min_iou).any(axis=1))
        if len(good):
            return crops[good[0]]
    return window


def place(
    window: np.ndarray, image: tuple[int, int], result: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Which part of the image the window shows, and where in the result that goes.

    Both are whole pixels, int [4] xyxy, so that boxes moved from one to the other are exact.

    Args:
        image, result: (width, height).
    """
    size = window[2:] - window[:2]
    source = np.concatenate([window[:2].clip(0), np.minimum(window[2:], image)])
    scaled = (source.reshape(2, 2) - window[:2]) * (np.array(result) / size)
    start, end = scaled.round().astype(int)
    start = np.minimum(start, np.array(result) - 1)
    return source, np.concatenate([start, np.maximum(end, start + 1)])


def _draw_crops(
    window: np.ndarray, min_scale: float, rng: np.random.Generator, trials: int = 40
) -> np.ndarray:
    """int [T, 4]: parts of the window with sides from `min_scale` up, none thinner than 1:2."""
    size = window[2:] - window[:2]
    sides = (size * rng.uniform(min_scale, 1, size=(trials, 2))).astype(int)
    corners = window[:2] + ((size - sides) * rng.random((trials, 2))).astype(int)
    ratios = sides[:, 0] / sides[:, 1].clip(1)
    fine = (sides > 0).all(axis=1) & (ratios >= 0.5) & (ratios <= 2)
    return np.concatenate([corners, corners + sides], axis=1)[fine]


def centres_in(crops: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """bool [T, M]: whether a box's centre is inside a crop."""
    centres = (boxes[None, :, :2] + boxes[None, :, 2:]) / 2
    inside = (centres > crops[:, None, :2]) & (centres < crops[:, None, 2:])
    return inside.all(axis=2)


def _iou(crops: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """[T, M]: intersection over union of each crop with each box."""
    low = np.maximum(crops[:, None, :2], boxes[None, :, :2])
    high = np.minimum(crops[:, None, 2:], boxes[None, :, 2:])
    common = (high - low).clip(0).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (crops, boxes)]
    return common / (areas[0][:, None] + areas[1][None, :] - common)
