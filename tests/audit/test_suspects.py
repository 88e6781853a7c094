"""From what witnesses say to the list: who is on it, as what, and in which order."""

import numpy as np
import pytest

from detcenter.audit import (
    KINDS,
    Annotated,
    Missing,
    Opinions,
    Placement,
    Witnesses,
    box_scores,
    suspects_in,
)

NAMES = ["cat", "dog"]


def witnesses(logits, support, misplaced, seen=(5, 5)):
    """On boxes of two classes; of the classes all three are of the classifier's opinion."""
    logits = np.asarray(logits, float)
    of_classes = logits[:, 1:] - np.logaddexp(logits[:, 1], logits[:, 2])[:, None]
    count = len(logits)
    at_boxes = Placement(
        np.asarray(support, float),
        np.asarray(misplaced, float),
        np.full((count, 4), 7.0),
        np.full(count, 0.9),
        np.full(count, 0.4),
    )
    return Witnesses(logits, Opinions(of_classes, of_classes, of_classes), at_boxes, np.array(seen))


def annotated(labels):
    count = len(labels)
    return Annotated(
        np.arange(count),
        np.arange(count) + 3,
        np.arange(4.0 * count).reshape(-1, 4),
        np.array(labels),
    )


NOTHING = Missing(np.zeros(0, int), np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
# Background, cat and dog: a cat, a dog, nothing, and a cat that is not quite sure to be there.
LOGITS = np.log([[0.02, 0.9, 0.08], [0.02, 0.08, 0.9], [0.9, 0.06, 0.04], [0.4, 0.5, 0.1]])


def doubted(p):
    """Odds times 0.05 / 0.95."""
    odds = np.asarray(p) / (1 - np.asarray(p)) / 19
    return odds / (1 + odds)


def test_scores_by_hand():
    scores = box_scores(np.array([1, 1, 1, 2]), witnesses(LOGITS, [0, 0, 0, 0.8], [0.1] * 4))
    there = np.array([0.98, 0.98, 0.1, 0.8])
    assert scores.surplus == pytest.approx(doubted(1 - there))
    other = np.array([0.08 / 0.98, 0.9 / 0.98, 0.04 / 0.1, 0.5 / 0.6])
    assert scores.wrong_label == pytest.approx(doubted(other * 1.05 * there / (there + 0.05)))
    assert scores.badly_placed == pytest.approx(0.1)
    assert scores.better_labels.tolist() == [2, 2, 2, 1]


def test_the_list():
    missing = Missing(np.array([2]), np.array([[1.0, 2, 3, 4]]), np.array([0.97]), np.array([2]))
    said = witnesses(LOGITS, [0, 0, 0, 0.8], [0.5, 0, 0, 0])
    found = suspects_in(annotated([1, 1, 1, 1]), said, missing, NAMES, least=0.05)
    assert [(x.kind, x.image) for x in found] == [
        ("missing", 2),
        ("badly placed", 0),
        ("wrong label", 1),
        ("surplus", 2),
    ]
    assert [x.score for x in found] == sorted((x.score for x in found), reverse=True)
    absent, placed, wrong, surplus = found
    assert (wrong.label, wrong.better_label, wrong.box) == (1, 2, (4, 5, 6, 7))
    assert wrong.reason.startswith("dog rather than cat: classifier 0.92 to 0.08, centers 0.92")
    assert (surplus.label, surplus.better_label, surplus.better_box) == (1, None, None)
    assert absent.score == pytest.approx(doubted(0.97))
    assert (absent.label, absent.better_label, absent.box) == (None, 2, (1, 2, 3, 4))
    assert placed.better_box == (7, 7, 7, 7) and "IoU with the box is 0.40" in placed.reason
    assert [x.position for x in found] == [None, 0, 1, 2]
    assert [x.number for x in found] == [None, 3, 4, 5]
    assert {x.kind for x in found} == set(KINDS)


def test_a_box_may_be_suspect_in_two_ways():
    said = witnesses(LOGITS, [0] * 4, [0, 0.4, 0, 0])
    found = suspects_in(annotated([1, 1, 1, 1]), said, NOTHING, NAMES, least=0.1)
    assert [(x.kind, x.position) for x in found if x.position == 1] == [
        ("badly placed", 1),
        ("wrong label", 1),
    ]


def test_least():
    said = witnesses(LOGITS, [0] * 4, [0] * 4)
    scores = [x.score for x in suspects_in(annotated([1, 1, 1, 1]), said, NOTHING, NAMES, least=0)]
    assert len(scores) == 12  # every box in three ways
    some = suspects_in(annotated([1, 1, 1, 1]), said, NOTHING, NAMES, least=0.1)
    assert [x.score for x in some] == [score for score in scores if score >= 0.1] != []


def test_nothing_is_said_of_a_class_that_nobody_has_seen():
    said = witnesses(LOGITS, [0] * 4, [0.9] * 4, seen=(0, 5))
    found = suspects_in(annotated([1, 1, 1, 2]), said, NOTHING, NAMES)
    assert {x.label for x in found} == {2}
