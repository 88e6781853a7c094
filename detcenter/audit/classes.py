"""What class a box is of, by three witnesses: the classifier, class centers, and neighbours.

None of them has learnt from the boxes that it speaks of: they belong to images that the detector
was not trained on.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_softmax  # type: ignore[import-untyped]

from detcenter.class_centers import class_centers

_NEIGHBOURS = 10
_SHARPNESS = 10.0  # of the neighbours' votes: exp(10 (cosine - that of the nearest))
_ROWS = 1024  # boxes whose neighbours are looked for at once, so that memory is bounded
_DOUBT = 0.01  # added to every class's share of the votes, so that none is impossible


class Opinions(NamedTuple):
    """Log-probabilities of the C classes, each float64 [N, C]; of label k in column k - 1."""

    classifier: np.ndarray
    centers: np.ndarray
    neighbours: np.ndarray


def class_opinions(
    logits: np.ndarray,
    directions: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    seen_directions: np.ndarray,
    seen_labels: np.ndarray,
) -> Opinions:
    r"""What class N boxes are of that a detector has not seen, which has learnt from M others.

    - ``classifier``: the softmax of the logits over the classes alone, without background.
    - ``centers``: :math:`\log p(c) = -2 d_c / s_c + \ldots`, where :math:`d_c` is the distance to
      the mean of the class's *seen* features, and :math:`s_c^2` the mean square of their own
      distances to it. So a class that scatters reaches farther. The :math:`s_c^2` of a class with
      few boxes leans on that of all, as if five boxes had it; a class without boxes is as far as
      can be, 2.
    - ``neighbours``: the shares of the given labels among the ten nearest of the N boxes, weighted
      by :math:`e^{10 \cos}`, with 0.01 added to each. These boxes were not seen either: the
      features of a box that was trained on under a wrong label lie where its label wants them.
      Boxes of the same group are no neighbours, as copies of an image share their errors.

    Args:
        logits: [N, C + 1], whose column 0 is background.
        directions: features on the unit sphere, [N, D].
        labels: [N] as annotated, in 1..C.
        groups: [N] integers, equal for boxes of the same image, or of copies of it.
        seen_directions, seen_labels: [M, D] and [M], likewise of the boxes that were trained on.
    """
    classes = logits.shape[1] - 1
    return Opinions(
        log_softmax(np.asarray(logits, np.float64)[:, 1:], axis=1),
        _by_centers(directions, seen_directions, seen_labels - 1, classes),
        _by_neighbours(directions, labels - 1, groups, classes),
    )


def mixed(opinions: Opinions) -> np.ndarray:
    """The normalised geometric mean of the witnesses' probabilities, as logarithms [N, C]."""
    mean: np.ndarray = log_softmax(np.mean(opinions, axis=0), axis=1)
    return mean


def wrong_label_scores(opinion: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How probable a better label is than the given one, and which that is.

    Args:
        opinion: log-probabilities [N, C].
        labels: [N] as annotated, in 1..C.

    Returns:
        p / (p + q) in 0..1, [N], for the probabilities q of the label and p of the likeliest other
        class, and that class's label [N]. With a single class the scores are 0 and the labels are
        those given.
    """
    rows, own = np.arange(len(labels)), np.asarray(labels) - 1
    if opinion.shape[1] < 2:
        return np.zeros(len(labels)), np.asarray(labels)
    others = opinion.copy()
    others[rows, own] = -np.inf
    best = others.argmax(axis=1)
    scores: np.ndarray = expit(others[rows, best] - opinion[rows, own])
    return scores, best + 1


def look_alikes(
    directions: np.ndarray, labels: np.ndarray, position: int, label: int, most: int
) -> list[int]:
    """Which boxes of a label look most like the one at ``position``, the likest first, without it.

    Args:
        directions: features on the unit sphere, [N, D].
        labels: [N].
        most: of them.
    """
    others = np.flatnonzero((labels == label) & (np.arange(len(labels)) != position))
    cosine = directions[others] @ directions[position]
    found: list[int] = others[np.argsort(-cosine, kind="stable")[:most]].tolist()
    return found


def _by_centers(
    features: np.ndarray, seen: np.ndarray, seen_classes: np.ndarray, classes: int
) -> np.ndarray:
    centers, spread, count = class_centers(seen, seen_classes, classes)
    distance = np.stack([np.linalg.norm(features - center, axis=1) for center in centers], axis=1)
    distance[:, count == 0] = 2  # the diameter of the sphere
    opinion: np.ndarray = log_softmax(-2 * distance / spread, axis=1)
    return opinion


def _by_neighbours(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int
) -> np.ndarray:
    shares = np.full((len(features), classes), 1 / classes)
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        cosine = features[rows] @ features.T
        cosine[groups[rows, None] == groups] = -np.inf
        near = np.argpartition(-cosine, min(_NEIGHBOURS, len(features)) - 1)[:, :_NEIGHBOURS]
        near_cosine = np.take_along_axis(cosine, near, axis=1).astype(np.float64)
        nearest = near_cosine.max(axis=1, keepdims=True)
        weights = np.exp(_SHARPNESS * (near_cosine - np.where(nearest > -np.inf, nearest, 0)))
        votes = np.zeros((len(near), classes))
        np.add.at(votes, (np.arange(len(near))[:, None], labels[near]), weights)
        total = votes.sum(axis=1, keepdims=True)
        shares[rows] = np.divide(votes, total, out=shares[rows].copy(), where=total > 0)
    opinion: np.ndarray = np.log((shares + _DOUBT) / (1 + classes * _DOUBT))
    return opinion
