"""What every detection data set is: annotations in memory, images on disk."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from detcenter.data.annotations import Annotation as Annotation
from detcenter.data.annotations import Annotations
from detcenter.data.errors import DataError, Fault, printable
from detcenter.data.images import image_size, read_image, read_reduced
from detcenter.data.kept import kept

logger = logging.getLogger("detcenter")

# (image uint8 [H, W, 3], boxes float32 [M, 4], labels int64 [M]) -> the same three
BoxTransform = Callable[
    [np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]
]


class Target(TypedDict):
    """One image's boxes, as torchvision's detectors take them."""

    boxes: Tensor  # FloatTensor[M, 4], xyxy pixels
    labels: Tensor  # Int64Tensor[M], from 1
    image_id: int | str


class DetectionDataset(Dataset[tuple[Tensor, Target]]):
    """Images with boxes.

    Args:
        annotations: one entry an image. Boxes are clipped to the image; those without area are
            dropped and reported once, as a warning of the logger "detcenter".
        classes: names without background; label k is `classes[k - 1]`.
        transform: called as `transform(image, boxes, labels)`, see `BoxTransform`.
        as_annotated: leave the boxes as they are, but for those that are not finite; for
            annotations that are measured with, not trained on.
        keep_difficult: whether targets hold boxes flagged difficult. Crowd boxes never are.
        categories: what a COCO file says of each class, its "id" too; None, and ids are 1, 2, ...

    Attributes:
        annotations: all boxes, crowd and difficult ones too, for evaluation; see `Annotations`.
        category_ids: what COCO result files call the classes.
        dropped: how many boxes without area were left out, by image.
        draft: whether JPEGs that are much larger than `transform` needs, by its attribute
            `least`, are decoded smaller; pixels differ a little, boxes are scaled along.
        size_reported: whether a warning has said that an image is not as large as annotated; it
            is said of one when that is loaded, and of no other.

    Raises:
        DataError: a label without a class; when an item is loaded, an image that cannot be read.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        classes: list[str],
        transform: BoxTransform | None = None,
        keep_difficult: bool = False,
        as_annotated: bool = False,
        categories: list[dict[str, Any]] | None = None,
    ) -> None:
        self.annotations: Sequence[Annotation]
        self.annotations, self.dropped = clean_annotations(annotations, as_annotated)
        _check_labels(self.annotations, len(classes))
        self.classes = list(classes)
        self.categories = categories or []
        self.category_ids: list[int | str] = [category["id"] for category in self.categories] or [
            *range(1, len(classes) + 1)
        ]
        self.transform = transform
        self.keep_difficult = keep_difficult
        self.size_reported = False
        self.draft = False
        self._kept: tuple[Path, frozenset[str]] | None = None

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, Target]:
        """(image ByteTensor[3, H, W], target); without boxes, boxes have shape [0, 4].

        ``index`` may be (index, seed): what the transform draws from torch's generator follows
        from the seed alone then, and nothing else that draws from it is disturbed.
        """
        if isinstance(index, tuple):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(index[1])
                return self[index[0]]
        annotation = self.annotations[index]
        image, factor = self._decoded(index)
        boxes, labels = self._boxes_on(image, factor, annotation)
        if self.transform is not None:
            image, boxes, labels = self.transform(image, boxes, labels)
        target = Target(
            boxes=torch.from_numpy(boxes),
            labels=torch.from_numpy(labels),
            image_id=annotation["image_id"],
        )
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), target

    def image(self, index: int) -> np.ndarray:
        """The image as it is, uint8 RGB [H, W, 3]."""
        return read_image(*self.source(index))

    def source(self, index: int) -> tuple[Path | bytes, Path]:
        """The image's file, or its content, and its name in messages."""
        path = self.annotations[index]["path"]
        return path, path

    def version(self, index: int) -> str:
        """What names the image, and changes when it does; "" if there is none."""
        path = self.annotations[index]["path"]
        try:
            state = path.stat()
        except OSError:
            return ""
        return f"{path.absolute()} {state.st_size} {state.st_mtime_ns}"

    def decoding(self, index: int) -> tuple[str, int]:
        """What names the image as it is decoded, "" if there is none, and its bytes then."""
        annotation, least, version = self.annotations[index], self._least, self.version(index)
        sides, factor = (annotation["width"], annotation["height"]), 1
        if least is not None:
            version = f"{version} {least}" if version else ""
            if annotation["path"].suffix.lower() in (".jpg", ".jpeg", ".jfif"):
                factor = max(f for f in (1, 2, 4, 8) if f == 1 or min(sides) // least >= f)
        return version, 3 * (-(-sides[0] // factor)) * (-(-sides[1] // factor))

    def keep(self, folder: Path, versions: Collection[str]) -> None:
        """Decode images of these names, of `decoding`, once, and keep them; see `kept`."""
        self._kept = folder, frozenset(versions) - {""}

    @property
    def _least(self) -> int | None:
        """The least side of images that may be decoded smaller."""
        return getattr(self.transform, "least", None) if self.draft else None

    def _decoded(self, index: int) -> tuple[np.ndarray, int]:
        """The image, and by what factor it is smaller than it is."""
        if self._kept is not None:
            folder, versions = self._kept
            version, _ = self.decoding(index)
            if version in versions:
                return kept(folder, version, partial(self._read, index))
        return self._read(index)

    def _read(self, index: int) -> tuple[np.ndarray, int]:
        if self._least is None:
            return self.image(index), 1
        source, name = self.source(index)
        return read_reduced(source, self._least, name)

    def _boxes_on(
        self, image: np.ndarray, factor: int, annotation: Annotation
    ) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and labels to learn from, inside the image as it really is."""
        height, width = image.shape[:2]
        annotated = [-(-annotation[side] // factor) for side in ("width", "height")]
        if [width, height] != annotated:
            self._report_size(annotation, width * factor, height * factor)
        boxes, keep = clean_boxes(annotation["boxes"] / factor, width, height)
        keep &= learnable(annotation, self.keep_difficult)
        return boxes[keep].astype(np.float32), annotation["labels"][keep]

    def _report_size(self, annotation: Annotation, width: int, height: int) -> None:
        if self.size_reported:
            return
        self.size_reported = True
        size = f"{width}x{height}, annotated as {annotation['width']}x{annotation['height']}"
        logger.warning("%s is %s; its boxes may be wrong", annotation["path"], size)


def learnable(annotation: Mapping[str, Any], keep_difficult: bool) -> np.ndarray:
    """Which boxes are for learning, bool [M]: no crowds, and difficult ones only if kept."""
    return ~annotation["iscrowd"] & (~annotation["difficult"] | keep_difficult)


def clean_boxes(
    boxes: np.ndarray, width: int | np.ndarray, height: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to the image and tell which are boxes at all.

    Args:
        boxes: [M, 4], xyxy pixels.
        width, height: of the image, or of each box's image [M], pixels.

    Returns:
        float64 [M, 4] and bool [M]: False where a box is not finite, inverted or without area.
    """
    finite = np.isfinite(boxes).all(axis=1)
    limits = np.stack([width, height, width, height], axis=-1)
    clipped = np.clip(boxes, 0, limits).astype(np.float64)
    sides = clipped.astype(np.float32)  # in which they are trained on
    return clipped, finite & (sides[:, 2:] > sides[:, :2]).all(axis=1)


def clean_annotations(
    annotations: Sequence[Annotation], as_annotated: bool = False
) -> tuple[Annotations, dict[Path, int]]:
    """Copies with `clean_boxes` applied, and how many boxes were dropped by image.

    With `as_annotated` only boxes that are not finite are dropped, and none is clipped.

    What was dropped is one warning for all of them.
    """
    cleaned = Annotations(annotations)
    keep = np.isfinite(cleaned.columns["boxes"]).all(axis=1)
    if not as_annotated:
        sizes = cleaned.sizes[cleaned.image].T
        cleaned.columns["boxes"], keep = clean_boxes(cleaned.columns["boxes"], *sizes)
    places, counts = np.unique(cleaned.image[~keep], return_counts=True)
    pairs = zip(places.tolist(), counts.tolist(), strict=True)
    dropped = {cleaned.path(place): count for place, count in pairs}
    cleaned.keep(keep)
    if dropped:
        first = ", ".join([path.name for path in dropped][:3]) + (", …" if len(dropped) > 3 else "")
        logger.warning(
            "boxes without area dropped: %d, images: %d (%s)",
            sum(dropped.values()),
            len(dropped),
            printable(first),
        )
    return cleaned, dropped


def true_size(
    path: Path, width: int, height: int, boxes: np.ndarray | list[list[float]]
) -> tuple[int, int]:
    """(width, height) as annotated, or the image header's where that cannot be right.

    A missing size (0) cannot, nor one that a box reaches out of by more than a pixel: annotation
    files often keep the size from before a rotation.
    """
    if width > 0 and height > 0:
        far = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)[:, 2:].max(axis=0, initial=0)
        if far[0] <= width + 1 and far[1] <= height + 1:
            return width, height
    return image_size(path)


def keep_annotated_size(annotation: Annotation, width: int, height: int) -> None:
    """Keep the size that the file has, if `true_size` found that it cannot be right."""
    if min(width, height) > 0 and (width, height) != (annotation["width"], annotation["height"]):
        annotation["annotated_size"] = (width, height)


def likely_size(width: int, height: int, boxes: np.ndarray) -> tuple[int, int]:
    """`true_size` without the image: where the annotated size cannot be right, what holds all
    boxes, so that none is cut."""
    finite = boxes[np.isfinite(boxes).all(axis=1)]
    far = np.ceil(finite[:, 2:].max(axis=0, initial=1)).astype(int).tolist()
    right = width > 0 and height > 0 and far[0] <= width + 1 and far[1] <= height + 1
    return (width, height) if right else (max(width, far[0]), max(height, far[1]))


def _check_labels(annotations: Annotations, num_names: int) -> None:
    labels = annotations.columns["labels"]
    wrong = np.flatnonzero((labels < 1) | (labels > num_names))
    if len(wrong):
        message = f"label {labels[wrong[0]]} is outside 1..{num_names}; 0 is background"
        raise DataError(Fault(annotations.path(annotations.image[wrong[0]]), message))
