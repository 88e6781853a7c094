"""Average precision over resampled images, without matching any box again.

A detection's match depends on its own image alone, so that a data set in which image i occurs
w_i times needs only weighted counts.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.evaluation.coco import RECALLS
from detcenter.evaluation.pycoco import image_matches

_AT_ONCE = 4_000_000  # numbers in the largest array


class _ClassMatches(NamedTuple):
    """The detections of one class, the surest first."""

    images: np.ndarray  # [N]
    true: np.ndarray  # bool [T, N], T IoU thresholds
    false: np.ndarray  # bool [T, N]; neither where a detection is ignored
    objects: np.ndarray  # [I], of every image


class ResampledAP:
    """COCO's AP of one set of detections, for any weights of its images.

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
        self._classes = [_joined(of_class) for of_class in matches]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """AP [B] for weights [B, I], the number of times that each image occurs.

        Equal to COCO's AP of a data set with those images; nan where that has no objects.
        """
        values = [_ap(of_class, weights) for of_class in self._classes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no class has objects: nan
            mean: np.ndarray = np.nanmean(values, axis=0)
        return mean


def resampled_weights(num_images: int, samples: int, seed: int = 0) -> np.ndarray:
    """[samples, num_images]: how often each image occurs in bootstrap samples of them all."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=samples)


def _joined(of_class: Sequence[Mapping[str, np.ndarray]]) -> _ClassMatches:
    scores = np.concatenate([image["scores"] for image in of_class])
    order = np.argsort(-scores, kind="stable")  # pycocotools' order among equal scores
    numbers = np.repeat(np.arange(len(of_class)), [len(image["scores"]) for image in of_class])
    matched, ignored = (
        np.concatenate([image[name] for image in of_class], axis=1)[:, order]
        for name in ("matched", "ignored")
    )
    objects = np.array([int(image["objects"]) for image in of_class])
    return _ClassMatches(numbers[order], matched & ~ignored, ~matched & ~ignored, objects)


def _ap(of_class: _ClassMatches, weights: np.ndarray) -> np.ndarray:
    """[B]: the mean over thresholds and recalls, nan where there are no objects."""
    rows = max(1, _AT_ONCE // max(len(RECALLS), len(of_class.images), 1))
    parts = [_ap_of(of_class, weights[i : i + rows]) for i in range(0, len(weights), rows)]
    return np.concatenate(parts)


def _ap_of(of_class: _ClassMatches, weights: np.ndarray) -> np.ndarray:
    objects = weights @ of_class.objects
    counted = weights[:, of_class.images]  # [B, N]
    total = np.zeros(len(weights))
    for true, false in zip(of_class.true, of_class.false, strict=True):
        hits = np.cumsum(counted[:, true], axis=1)  # [B, P], at every true detection
        misses = np.cumsum(counted * false, axis=1)[:, true]
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / objects[:, None]
            precision = hits / (hits + misses)
        # The highest precision at this recall or a higher one, as COCO has it. Where nothing was
        # counted yet precision is 0/0, and recall too low for any of RECALLS but the first.
        best = np.maximum.accumulate(np.nan_to_num(precision)[:, ::-1], axis=1)[:, ::-1]
        best = np.hstack([best, np.zeros((len(best), 1))])  # recalls that are never reached
        places = [np.searchsorted(row, RECALLS, side="left") for row in np.nan_to_num(recall)]
        total += np.take_along_axis(best, np.array(places), axis=1).mean(axis=1)
    return np.where(objects > 0, total / len(of_class.true), np.nan)
