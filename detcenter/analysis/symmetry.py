"""Whether objects may be mirrored and turned: what a classifier of crops says."""

from typing import NamedTuple

import cv2
import numpy as np

SIDE = 32
"""Pixels of a crop."""
_CELLS = 4
_DIRECTIONS = 8
_PARTS = 5
_FEW = 20  # objects of a class that say too little
_ABOVE_CHANCE = 0.1  # accuracy of which something can be lost


class Symmetry(NamedTuple):
    """What is left, in a mirror and after turns, of how well objects can be told apart.

    Of the mean accuracy of the classes above chance, or of the accuracy of the class that loses
    most, whichever is less: 1 is all, 0 none.
    """

    mirrored: float
    turned: float
    """by right angles, the mean of three"""


def symmetry(crops: np.ndarray, labels: np.ndarray, images: np.ndarray) -> Symmetry | None:
    """Train a classifier on objects as they are, and let it name others, mirrored and turned.

    If it names these as well, mirrors and turns leave classes what they are. It is a support vector
    machine on directions of edges (Dalal and Triggs, CVPR 2005) and colours, trained five times on
    four fifths of the images.

    Args:
        crops: one object each, resized to a square, uint8 RGB [M, SIDE, SIDE, 3].
        labels: classes [M].
        images: which image it is from [M].

    Returns:
        None where that says nothing: fewer than two classes with 20 objects or more, or with fewer
        images than parts, or classes that cannot be told apart even as they are.
    """
    counts = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    enough = np.array([counts[label] >= _FEW for label in labels], bool)
    crops, labels, images = crops[enough], labels[enough], images[enough]
    classes = np.unique(labels)
    if len(classes) < 2 or len(np.unique(images)) < _PARTS:
        return None
    plain, mirrored, *turned = _accuracies(crops, labels, images)
    if plain.mean() - 1 / len(classes) < _ABOVE_CHANCE:
        return None
    return Symmetry(_left(plain, mirrored), _left(plain, np.mean(turned, axis=0)))


def _left(plain: np.ndarray, changed: np.ndarray) -> float:
    """Of accuracies by class [C]."""
    chance = 1 / len(plain)
    told = plain > chance  # others have nothing to lose
    worst = (changed[told] / plain[told]).min()
    return float(min((changed.mean() - chance) / (plain.mean() - chance), worst))


def _accuracies(crops: np.ndarray, labels: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
    """By class [C]: as they are, mirrored, and turned by one, two and three right angles."""
    from sklearn.model_selection import GroupKFold  # slow to import, and needed only here
    from sklearn.svm import SVC

    changed = [crops, crops[:, :, ::-1], *(np.rot90(crops, k, axes=(1, 2)) for k in (1, 2, 3))]
    features = [np.stack([_features(crop) for crop in of]) for of in changed]
    right = np.zeros((len(changed), len(labels)), bool)
    for learnt, named in GroupKFold(_PARTS).split(labels, groups=images):
        machine = SVC(C=10, class_weight="balanced").fit(features[0][learnt], labels[learnt])
        for k, of in enumerate(features):
            right[k, named] = machine.predict(of[named]) == labels[named]
    return [np.array([of[labels == label].mean() for label in np.unique(labels)]) for of in right]


def _features(crop: np.ndarray) -> np.ndarray:
    """Square roots of the parts that edges of a direction have in each of 16 cells, and colours."""
    crop = np.ascontiguousarray(crop)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float64)
    down, right = np.gradient(grey)
    direction = np.floor(np.arctan2(down, right) / (2 * np.pi) * _DIRECTIONS).astype(int)
    row, column = np.indices(grey.shape) * _CELLS // SIDE
    edges = np.zeros((_CELLS, _CELLS, _DIRECTIONS))
    np.add.at(edges, (row, column, direction % _DIRECTIONS), np.hypot(down, right))
    colours = cv2.resize(crop, (8, 8), interpolation=cv2.INTER_AREA).ravel() / 255
    # Factors that let both count.
    return np.concatenate([3 * np.sqrt(edges.ravel() / max(edges.sum(), 1e-6)), colours / 4])
