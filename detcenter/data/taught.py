"""Data sets of which a detector is taught some classes only."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from detcenter.data.annotations import Annotations
from detcenter.data.dataset import Annotation, DetectionDataset


class TaughtDataset(DetectionDataset):
    """The images of a data set with the boxes of some of its classes.

    Args:
        whole: the data set with all classes.
        taught: the classes that stay, in the order of their labels.
        unknown: the classes that do not; every class with boxes is one or the other.
        keep_images: whether images with objects of unknown classes stay.

    Attributes:
        with_unknown: the annotations of the same images with all boxes. Labels of unknown classes
            follow those of the others.
    """

    def __init__(
        self,
        whole: DetectionDataset,
        taught: Sequence[str],
        unknown: Sequence[str],
        keep_images: bool,
    ) -> None:
        names = [*taught, *unknown]
        new = [names.index(name) + 1 if name in names else 0 for name in whole.classes]
        new_label = np.array([0, *new])
        relabelled = [
            cast(Annotation, annotation | {"labels": new_label[annotation["labels"]]})
            for annotation in whole.annotations
        ]
        self._whole = whole
        self._places = [
            place
            for place, annotation in enumerate(relabelled)
            if keep_images or (annotation["labels"] <= len(taught)).all()
        ]
        self.with_unknown = Annotations([relabelled[place] for place in self._places])
        seen = Annotations(self.with_unknown)
        seen.keep(seen.columns["labels"] <= len(taught))
        super().__init__(seen, [*taught], keep_difficult=whole.keep_difficult)
        if set(taught) <= set(whole.classes):
            places = [whole.classes.index(name) for name in taught]
            self.category_ids = [whole.category_ids[place] for place in places]
            self.categories = [whole.categories[p] for p in places if whole.categories]

    def source(self, index: int) -> tuple[Path | bytes, Path]:
        return self._whole.source(self._places[index])

    def version(self, index: int) -> str:
        return self._whole.version(self._places[index])
