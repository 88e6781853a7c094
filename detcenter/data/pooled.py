"""Data sets put together and cut otherwise, for cross-validation."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from detcenter.data.dataset import Annotation, DetectionDataset


class PooledDataset(DetectionDataset):
    """Chosen images of several data sets with the same classes, each read by its own.

    Args:
        parts: one after another; the classes and `keep_difficult` are those of the first.
        chosen: positions in all of them together, from 0. An image's `image_id` is its position
            from 1 on, since those of the parts may occur in several.
    """

    def __init__(self, parts: Sequence[DetectionDataset], chosen: Sequence[int]) -> None:
        places = [(part, i) for part in parts for i in range(len(part))]
        self._places = [places[position] for position in chosen]
        annotations = [
            cast(Annotation, {**part.annotations[i], "image_id": position + 1})
            for position, (part, i) in zip(chosen, self._places, strict=True)
        ]
        super().__init__(
            annotations,
            parts[0].classes,
            keep_difficult=parts[0].keep_difficult,
            categories=parts[0].categories,
        )

    def source(self, index: int) -> tuple[Path | bytes, Path]:
        part, i = self._places[index]
        return part.source(i)

    def version(self, index: int) -> str:
        part, i = self._places[index]
        return part.version(i)
