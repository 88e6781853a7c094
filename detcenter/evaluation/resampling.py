"""Average precision over resampled images, without matching any box again.

A detection's match depends on its own image alone, so that a data set in which image i occurs
w_i times needs only weighted counts.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.evaluation.coco import RECALLS
from detcenter.evaluation.detections import places
from detcenter.evaluation.pycoco import image_matches

_AT_ONCE = 100_000  # numbers in the largest array
_ALONE = {"AP50": 0, "AP75": 5}  # the places of single IoU thresholds


class _ClassMatches(NamedTuple):
    """The detections of one class, the surest first; of equal scores those of the lowest id."""

    images: np.ndarray  # [N]
    scores: np.ndarray  # [N]
    true: np.ndarray  # bool [T, N], T IoU thresholds
    false: np.ndarray  # bool [T, N]; neither where a detection is ignored
    objects: np.ndarray  # [I], of every image


class ResampledAP:
    """COCO's AP, AP50 and AP75 of one set of detections, for any weights of its images.

    Args:
        annotations, detections, classes: see :mod:`detcenter.evaluation`.
        max_detections: how many of an image and class count.
    """

    def __init__(
        self,
        annotations: Sequence[Mapping[str, Any]],
        detections: Sequence[Mapping[str, Any]],
        classes: Sequence[str],
        max_detections: int = 100,
    ) -> None:
        matches = image_matches(annotations, detections, classes, max_detections)
        self._classes = [_joined(of_class, places(annotations)) for of_class in matches]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """AP, AP50 and AP75, each [B], for weights [B, I]: how often each image occurs, 0 or more.

        Equal, to rounding, to what pycocotools gives for a data set in which image i is there w_i
        times, ids of copies following one another where the id of i stands among the others. Their
        order only matters among detections of equal scores: where copies have ids elsewhere, these
        stand in another order, and AP may differ by that. nan where that data set has no objects.
        """
        values = [_ap(of_class, weights) for of_class in self._classes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no class has objects: nan
            mean: np.ndarray = np.nanmean(values, axis=0)
        return dict(zip(("AP", *_ALONE), mean, strict=True))


def resampled_weights(num_images: int, samples: int, seed: int = 0) -> np.ndarray:
    """[samples, num_images]: how often each image occurs in bootstrap samples of them all."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=samples)


def _joined(of_class: Sequence[Mapping[str, np.ndarray]], ranks: Sequence[int]) -> _ClassMatches:
    """Of images whose ids stand at these places among all."""
    scores = np.concatenate([image["scores"] for image in of_class])
    numbers = np.repeat(np.arange(len(of_class)), [len(image["scores"]) for image in of_class])
    # Stable, as pycocotools' order among the equal scores of an image.
    order = np.lexsort((np.asarray(ranks)[numbers], -scores))
    matched, ignored = (
        np.concatenate([image[name] for image in of_class], axis=1)[:, order]
        for name in ("matched", "ignored")
    )
    objects = np.array([int(image["objects"]) for image in of_class])
    counted = matched & ~ignored, ~matched & ~ignored
    return _ClassMatches(numbers[order], scores[order], *counted, objects)


def _ap(of_class: _ClassMatches, weights: np.ndarray) -> np.ndarray:
    """[3, B]: the means over all, one and one thresholds; nan where there are no objects."""
    columns, copies = _spread_out(of_class, int(weights.max()))
    images = of_class.images[columns]
    true, false = of_class.true[:, columns], of_class.false[:, columns]
    objects = weights @ of_class.objects
    rows = max(1, _AT_ONCE // max(len(RECALLS), len(columns), 1))
    found = []
    for i in range(0, len(weights), rows):
        counted = weights[i : i + rows, images]  # [B, N]
        counted = np.where(copies, counted >= copies, counted)
        found.append(_ap_of(counted, true, false, objects[i : i + rows]))
    by_threshold = np.concatenate(found, axis=1)
    kinds = np.array([by_threshold.mean(axis=0), *(by_threshold[k] for k in _ALONE.values())])
    return np.where(objects > 0, kinds, np.nan)


def _spread_out(of_class: _ClassMatches, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of detections in order, and 0, or the number from 1 of the copy that it is of.

    Detections of one image with equal scores come again copy by copy, up to ``most`` times; all
    others are counted for all copies at once.
    """
    images, scores = of_class.images, of_class.scores
    starts = np.flatnonzero(
        np.r_[True, (np.diff(images) != 0) | (np.diff(scores) != 0)][: len(images)]
    )
    sizes = np.diff(np.r_[starts, len(images)])  # of groups of equals
    lengths = np.where(sizes > 1, most * sizes, 1)
    inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    size = np.repeat(sizes, lengths)
    columns = np.repeat(starts, lengths) + inside % size
    return columns, np.where(size > 1, inside // size + 1, 0)


def _ap_of(
    counted: np.ndarray, true: np.ndarray, false: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """[T, B], of detections that occur ``counted`` [B, N] times."""
    found = []
    for hit, miss in zip(true, false, strict=True):
        hits = np.cumsum(counted[:, hit], axis=1)  # [B, P], at every true detection
        misses = np.cumsum(counted * miss, axis=1)[:, hit]
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / objects[:, None]
            precision = hits / (hits + misses)
        # The highest precision at this recall or a higher one, as COCO has it. Where nothing was
        # counted yet precision is 0/0, and recall too low for any of RECALLS but the first.
        best = np.maximum.accumulate(np.nan_to_num(precision)[:, ::-1], axis=1)[:, ::-1]
        best = np.hstack([best, np.zeros((len(best), 1))])  # recalls that are never reached
        at = [np.searchsorted(row, RECALLS, side="left") for row in np.nan_to_num(recall)]
        found.append(np.take_along_axis(best, np.array(at), axis=1).mean(axis=1))
    return np.array(found)
