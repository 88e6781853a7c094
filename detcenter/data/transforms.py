"""Image transforms that move the boxes too, by albumentations (imported in this file only)."""

import math
import os
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the network

import albumentations as A  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from albumentations.core.type_definitions import Targets  # noqa: E402
from torch.utils.data import get_worker_info  # noqa: E402

from detcenter.data.crops import centres_in, iou_crop, place, zoom_out  # noqa: E402
from detcenter.errors import nearest  # noqa: E402

MEAN_COLOUR = (124, 116, 104)  # ImageNet's mean: zero after torchvision's normalisation

_TURNS = {  # by the number of right angles, counterclockwise
    1: cv2.ROTATE_90_COUNTERCLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_CLOCKWISE,
}


class WithinSides(NamedTuple):
    """A size that keeps the aspect ratio, as torchvision's R-CNNs and RetinaNet resize."""

    shortest: int
    """pixels of the shorter side"""
    longest: int
    """pixels that the longer side must not exceed; the shorter one gives way"""
    canvas: tuple[int, int] | None = None
    """height and width that must not be exceeded either, if there are any"""

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) that an image of this width and height is brought to."""
        scale = min(self.shortest / min(width, height), self.longest / max(width, height))
        if self.canvas is not None:
            scale = min(scale, self.canvas[0] / height, self.canvas[1] / width)
        return max(1, round(float(height * scale))), max(1, round(float(width * scale)))


class _Strength(NamedTuple):
    max_zoom: float  # zoom out: the canvas is up to so many times the image, each way
    min_scale: float  # crop: each side is at least this part of the image's
    min_ious: tuple[float, ...]  # crop: some box overlaps it by at least one of these
    colour: dict[str, tuple[float, float]]  # factors, each applied half of the time


_SSD = _Strength(
    max_zoom=4.0,
    min_scale=0.3,
    min_ious=(0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
    colour={
        "brightness": (0.875, 1.125),
        "contrast": (0.5, 1.5),
        "saturation": (0.5, 1.5),
        "hue": (-0.05, 0.05),
    },
)
_LIGHT = _Strength(
    max_zoom=1.3,
    min_scale=0.75,
    min_ious=(0.0, 1.0),
    colour={
        "brightness": (0.85, 1.15),
        "contrast": (0.85, 1.15),
        "saturation": (0.85, 1.15),
        "hue": (-0.02, 0.02),
    },
)
_ALL_BUT_TURNS = {"photometric": True, "zoom_out": True, "crop": True, "flip": True}
_PRESETS: dict[str, tuple[_Strength, dict[str, bool]]] = {
    "ssd": (_SSD, _ALL_BUT_TURNS),
    "light": (_LIGHT, _ALL_BUT_TURNS),
    "none": (_LIGHT, dict.fromkeys(_ALL_BUT_TURNS, False)),
}


def build_transform(
    image_size: int | tuple[int, int] | WithinSides, preset: str = "ssd", **switches: bool
) -> "SeededTransform":
    """A picklable `transform(image, boxes, labels)` that ends in images of the model's size.

    Args:
        image_size: (height, width) of the result in pixels; one number for a square; or bounds of
            its sides.
        preset: "ssd" (Liu et al., ECCV 2016, section 2.2, and the expansion of section 3.6:
            colours distorted, zoomed out up to 4 times half of the time, cropped by IoU, flipped),
            "light" (the same, milder) or "none" (resized only).
        switches: parts to turn on or off against the preset: `photometric`, `zoom_out`, `crop`,
            `flip` (left to right) and `rotate90` (turns by right angles, off in all presets).
            Parts switched on in "none" have the strength of "light".

    Raises:
        ValueError: an unknown preset or switch.
    """
    strength, defaults = _preset(preset)
    parts = defaults | {"rotate90": False}
    for name, value in switches.items():
        if name not in parts:
            raise ValueError(f"unknown transform switch '{name}'; {nearest(name, list(parts))}")
        parts[name] = value
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    steps = [RandomWindow(size, *_window_settings(strength, parts))]
    if parts["rotate90"]:
        steps.insert(0, RandomTurn(p=1.0))  # before the resize, which fixes the shape
    if parts["flip"]:
        steps.append(A.HorizontalFlip(p=0.5))
    colours = _photometric(strength) if parts["photometric"] else []
    # Twice the size, so that the resize averages; and no crop of it should have to be enlarged.
    enough = max(2.0, 1 / strength.min_scale if parts["crop"] else 0.0)
    side = size.shortest if isinstance(size, WithinSides) else max(size)
    return SeededTransform(steps, colours, math.ceil(enough * side))


class SeededTransform:
    """Albumentations steps that draw from torch's generator, and from nothing else.

    So `torch.manual_seed` and the DataLoader's seeding of its workers govern them.

    Args:
        steps: that move boxes.
        colours: steps after them that do not.
        least: pixels of an image's sides that are enough, if a data set can choose.
    """

    def __init__(
        self,
        steps: Sequence[A.BasicTransform],
        colours: Sequence[A.ImageOnlyTransform] = (),
        least: int | None = None,
    ) -> None:
        self.least = least
        # On their own: in a Compose, every step has all boxes checked again.
        self.colours = list(colours)
        # Without the last two, a box that rounding leaves flat or outside is an error.
        self.pipeline = A.Compose(
            list(steps),
            bbox_params=A.BboxParams(
                format="pascal_voc",
                label_fields=["labels"],
                clip=True,
                filter_invalid_bboxes=True,
            ),
        )

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(uint8 [H, W, 3], float32 [M, 4] xyxy pixels, int64 [M]) to the same three.

        Boxes that leave the image, or keep less than one square pixel, are dropped.
        """
        if get_worker_info() is not None and cv2.getNumThreads() > 1:
            cv2.setNumThreads(0)  # one process a core is enough
        self._seed(int(torch.randint(2**62, ())))
        moved = self.pipeline(image=image, bboxes=boxes, labels=labels)
        image = moved["image"]
        for step in self.colours:
            image = step(image=image)["image"]
        boxes = np.asarray(moved["bboxes"], dtype=np.float32).reshape(-1, 4)
        labels = np.asarray(moved["labels"], dtype=np.int64).reshape(-1)
        keep = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) >= 1
        return image, boxes[keep], labels[keep]

    def _seed(self, seed: int) -> None:
        # Not Compose.set_random_seed: it gives every step the same seed, so that all steps of
        # one probability happen together or not at all.
        generator, py_random = np.random.default_rng(seed), random.Random(seed)
        for step in [*self.pipeline.transforms, *self.colours]:
            step.set_random_state(generator, py_random)


class RandomTurn(A.RandomRotate90):
    """The same, turned by OpenCV: ten times as fast as a strided copy by numpy."""

    def apply(self, img: np.ndarray, factor: int, **params: Any) -> np.ndarray:
        return img if factor == 0 else cv2.rotate(img, _TURNS[factor])


class RandomWindow(A.DualTransform):
    """Zoom out, crop and resize in one go, without ever building the zoomed-out canvas.

    A window is chosen in the image's pixels: the image, half of the time enlarged on all sides
    (zoom out), then part of that (crop). What the window shows is resized to `size`, and what
    lies outside of the image is filled with ImageNet's mean colour.

    Args:
        size: (height, width) of the result, or bounds of its sides.
        max_zoom: the enlarged window is up to this many times the image each way; 1 for never.
        min_scale: as `torchvision.transforms.v2.RandomIoUCrop`.
        min_ious: its `sampler_options`; (1.0,) for no crop.
    """

    _targets = (Targets.IMAGE, Targets.BBOXES)

    def __init__(
        self,
        size: tuple[int, int] | WithinSides,
        max_zoom: float = 1.0,
        min_scale: float = 0.3,
        min_ious: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.max_zoom = max_zoom
        self.min_scale = min_scale
        self.min_ious = min_ious

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        height, width = params["shape"][:2]
        window = np.array([0, 0, width, height])
        if self.max_zoom > 1 and self.random_generator.random() < 0.5:
            window = zoom_out(window, self.max_zoom, self.random_generator)
        boxes = data["bboxes"][:, :4] * [width, height, width, height]
        window = iou_crop(window, boxes, self.min_ious, self.min_scale, self.random_generator)
        size = self.size
        if isinstance(size, WithinSides):
            size = size.size_of(*(window[2:] - window[:2]))
        source, target = place(window, (width, height), size[::-1])
        return {"window": window, "source": source, "target": target, "size": size}

    def apply(
        self,
        img: np.ndarray,
        *args: Any,
        source: np.ndarray,
        target: np.ndarray,
        size: tuple[int, int],
        **params: Any,
    ) -> np.ndarray:
        part = img[source[1] : source[3], source[0] : source[2]]
        width, height = (int(side) for side in target[2:] - target[:2])
        shown = resized(part, (height, width))
        if (height, width) == size:
            return shown
        left, top, right, bottom = (int(side) for side in target)
        edges = top, size[0] - bottom, left, size[1] - right
        return cv2.copyMakeBorder(shown, *edges, cv2.BORDER_CONSTANT, value=MEAN_COLOUR)

    def apply_to_bboxes(
        self,
        bboxes: np.ndarray,
        *args: Any,
        window: np.ndarray,
        source: np.ndarray,
        target: np.ndarray,
        shape: tuple[int, ...],
        size: tuple[int, int],
        **params: Any,
    ) -> np.ndarray:
        """bboxes [M, 4 + labels], xyxy in 0..1: kept are those with their centre in the window."""
        boxes = bboxes[:, :4] * np.array([shape[1], shape[0]] * 2, dtype=np.float64)
        keep = centres_in(window[None], boxes)[0]
        corners = boxes.reshape(-1, 2, 2)[keep]
        corners = corners.clip(source[:2], source[2:]) - source[:2]
        scale = (target[2:] - target[:2]) / (source[2:] - source[:2])
        corners = (corners * scale + target[:2]) / size[::-1]
        return np.concatenate([corners.reshape(-1, 4), bboxes[keep, 4:]], axis=1).astype(np.float32)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] at `size`, (height, width): what the preset "none" makes of it."""
    shrinks = size[1] < image.shape[1] and size[0] < image.shape[0]
    # Linear interpolation skips pixels when it shrinks; averaging areas does not.
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=how)


def _preset(name: str) -> tuple[_Strength, dict[str, bool]]:
    if name not in _PRESETS:
        raise ValueError(f"unknown transform preset '{name}'; {nearest(name, list(_PRESETS))}")
    return _PRESETS[name]


def _window_settings(
    strength: _Strength, parts: dict[str, bool]
) -> tuple[float, float, tuple[float, ...]]:
    max_zoom = strength.max_zoom if parts["zoom_out"] else 1.0
    min_ious = strength.min_ious if parts["crop"] else (1.0,)
    return max_zoom, strength.min_scale, min_ious


def _photometric(strength: _Strength) -> list[A.ImageOnlyTransform]:
    """One step a property, each with its own half chance, as in SSD.

    They come after the resize, where there are fewer pixels.
    """
    still: dict[str, tuple[float, float]] = {
        "brightness": (1.0, 1.0),
        "contrast": (1.0, 1.0),
        "saturation": (1.0, 1.0),
        "hue": (0.0, 0.0),
    }
    return [A.ColorJitter(**(still | {k: v}), p=0.5) for k, v in strength.colour.items()]
