"""Detections of many images, in a few arrays."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
import torch

_AT_ONCE = 1000  # images


class ManyDetections(Sequence[dict[str, Any]]):
    """A sequence that keeps the detections of many images in an array for each of their keys.

    A million images are three million small arrays otherwise, which take more than what is in
    them. What is asked for is made then, its arrays parts of those here; a change of the dictionary
    is not kept.

    Args:
        columns: of every key, tensors or arrays, those of all images one after the other, [N, ...].
        counts: how many of the N are in each image, [images].
    """

    def __init__(self, columns: Mapping[str, Any], counts: Sequence[int] | np.ndarray) -> None:
        self.columns = dict(columns)
        self._ends = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    @classmethod
    def of(cls, detections: Iterable[Mapping[str, torch.Tensor]]) -> "ManyDetections":
        """Of tensors, image by image; all have the same keys."""
        counts, parts = list[int](), dict[str, list[torch.Tensor]]()
        for some in _in_portions(detections):
            counts += [len(found["labels"]) for found in some]
            for key in some[0]:
                parts.setdefault(key, []).append(torch.cat([found[key] for found in some]))
        # One key after the other: of one alone there are two copies then.
        return cls({key: torch.cat(parts.pop(key)) for key in [*parts]}, counts)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # which counts from the end, and raises IndexError
        start, end = self._ends[place : place + 2].tolist()
        return {key: column[start:end] for key, column in self.columns.items()}


def one_after_the_other(
    rows: Iterable[Sequence[np.ndarray]], empty: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """The columns of ``rows``, each an array; joined on the way, as small arrays take more.

    Args:
        empty: arrays without elements, as there may be no row.
    """
    parts = [[column] for column in empty]
    for some in _in_portions(rows):
        for column, arrays in zip(parts, zip(*some, strict=True), strict=True):
            column.append(np.concatenate(arrays))
    joined = []
    while parts:  # one after the other: of one alone there are two copies then
        joined.append(np.concatenate(parts.pop(0)))
    return tuple(joined)


def _in_portions(rows: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(rows)
    while some := [*islice(rest, _AT_ONCE)]:
        yield some
