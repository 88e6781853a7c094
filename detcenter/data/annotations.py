"""What is known of the boxes of images: of one in a dictionary, of many in a few arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast, overload

import numpy as np


class Annotation(TypedDict):
    """One image's boxes, as annotated and cleaned. M is the number of boxes."""

    image_id: int | str  # text in some exports
    path: Path
    width: int  # pixels
    height: int  # pixels
    boxes: np.ndarray  # float64 [M, 4], xyxy pixels, inside the image
    labels: np.ndarray  # int64 [M], from 1
    iscrowd: np.ndarray  # bool [M]
    difficult: np.ndarray  # bool [M]
    area: np.ndarray  # float64 [M], square pixels: COCO's own where given, else the box's
    file: NotRequired[Path]  # that says where the boxes are
    annotated_size: NotRequired[tuple[int, int]]  # that of the file, if width and height are not
    siblings: NotRequired[np.ndarray]  # bool [M], whether a box shares its VOC <object> with others
    bbox: NotRequired[np.ndarray]  # float64 [M, 4], x, y, width, height: boxes as in COCO's file


_DTYPES: dict[str, Any] = {
    "boxes": np.float64,
    "labels": np.int64,
    "iscrowd": bool,
    "difficult": bool,
    "area": np.float64,
    "siblings": bool,
    "bbox": np.float64,
}
_WIDE = ("boxes", "bbox")  # with four numbers a box
_OF_IMAGES = {"image_id", "path", "width", "height"}


class Annotations(Sequence[Annotation]):
    """A sequence that keeps `Annotation` of many images in a few arrays.

    A hundred thousand images are a million arrays otherwise, of which a loading process touches,
    and so copies, every one. What is asked for is made then, its arrays parts of those here; a
    change of the dictionary is not kept.

    Attributes:
        image: the position of each box's image, int64 [N]; N boxes in all.
        sizes: width and height of the images in pixels, int64 [images, 2].
        columns: of every key with arrays these one after the other, [N] or [N, 4].
    """

    def __init__(self, annotations: Sequence[Annotation]) -> None:
        counts = [len(annotation["labels"]) for annotation in annotations]
        sizes = [(annotation["width"], annotation["height"]) for annotation in annotations]
        self.image = np.repeat(np.arange(len(counts)), counts)
        self.sizes = np.array(sizes, np.int64).reshape(-1, 2)
        self.columns = {key: _column(annotations, key) for key in _keys_in(annotations)}
        self._ends = np.cumsum([0, *counts])
        self._ids = [annotation["image_id"] for annotation in annotations]
        self._paths = [annotation["path"] for annotation in annotations]
        rest = [
            {key: a[key] for key in a.keys() - _OF_IMAGES - _DTYPES.keys()}  # type: ignore[literal-required]
            for a in annotations
        ]
        self._rest = {place: of_image for place, of_image in enumerate(rest) if of_image}

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Annotation: ...

    @overload
    def __getitem__(self, index: slice) -> list[Annotation]: ...

    def __getitem__(self, index: int | slice) -> Annotation | list[Annotation]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # which counts from the end, and raises IndexError
        start, end = self._ends[place : place + 2].tolist()
        width, height = self.sizes[place].tolist()
        found = {
            "image_id": self._ids[place],
            "path": self._paths[place],
            "width": width,
            "height": height,
        }
        found |= {key: column[start:end] for key, column in self.columns.items()}
        return cast(Annotation, found | self._rest.get(place, {}))

    def path(self, place: int) -> Path:
        """That of the image there."""
        return self._paths[place]

    def keep(self, chosen: np.ndarray) -> None:
        """Leave out all boxes but the chosen ones, bool [N]."""
        if chosen.all():
            return
        self.image = self.image[chosen]
        self.columns = {key: column[chosen] for key, column in self.columns.items()}
        counts = np.bincount(self.image, minlength=len(self))
        self._ends = np.concatenate([[0], np.cumsum(counts)])


def joined(annotations: Sequence[Annotation], key: str) -> np.ndarray:
    """The arrays of a key, those of all images one after the other, [N] or [N, 4]."""
    if isinstance(annotations, Annotations) and key in annotations.columns:
        return annotations.columns[key]
    return _column(annotations, key)


def _keys_in(annotations: Sequence[Annotation]) -> list[str]:
    """Keys of arrays; an image without siblings has none that share an object."""
    optional = {"siblings": any, "bbox": all}
    return [
        key
        for key in _DTYPES
        if key not in optional
        or (annotations and optional[key](key in annotation for annotation in annotations))
    ]


def _column(annotations: Sequence[Annotation], key: str) -> np.ndarray:
    shape = (0, 4) if key in _WIDE else (0,)
    parts = [np.zeros(shape, _DTYPES[key])]
    for annotation in annotations:
        own: Any = annotation.get(key)
        parts.append(np.zeros(len(annotation["labels"]), bool) if own is None else own)
    return np.concatenate(parts, dtype=_DTYPES[key], casting="unsafe")
