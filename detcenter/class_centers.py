"""Where the features of each class lie on the unit sphere, and how far they scatter."""

from typing import NamedTuple

import numpy as np

_OF_ALL = 5.0  # boxes' worth of the mean spread of all classes, in that of each


class ClassCenters(NamedTuple):
    """What C classes look like: ``centers`` [C, D], ``spreads`` [C], ``counts`` of boxes [C]."""

    centers: np.ndarray
    spreads: np.ndarray
    counts: np.ndarray


def class_centers(directions: np.ndarray, places: np.ndarray, classes: int) -> ClassCenters:
    """The mean of each class's features, and the root of the mean square of their distances to it.

    That of a class with few boxes leans on that of all, as if five boxes had it. The center of a
    class without boxes is 0.

    Args:
        directions: features on the unit sphere, [M, D].
        places: of their classes, [M] from 0.
        classes: C.
    """
    count = np.bincount(places, minlength=classes)
    sums = np.zeros((classes, directions.shape[1]))
    np.add.at(sums, places, directions)
    centers = sums / np.maximum(count, 1)[:, None]
    square = ((directions - centers.astype(np.float32)[places]) ** 2).sum(axis=1)
    of_all = max(float(square.mean()) if len(square) else 0.0, 1e-12)
    spread = np.bincount(places, square, classes) + _OF_ALL * of_all
    return ClassCenters(centers, np.sqrt(spread / (count + _OF_ALL)), count)
