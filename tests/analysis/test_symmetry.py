"""What mirrors and turns leave of classes that a test draws."""

import cv2
import numpy as np
import pytest

from detcenter.analysis.symmetry import SIDE, symmetry


def drawn(shape, rng, turns=0):
    """A shape of four squares, somewhere, in a colour, turned so often."""
    cells = np.rot90(np.array([[c == "x" for c in row] for row in shape.split()]), turns)
    crop = np.full((SIDE, SIDE, 3), rng.integers(0, 90, 3), np.uint8)
    side = 7
    top, left = rng.integers(4, 8, 2)  # as much room on either side
    for row, column in np.argwhere(cells):
        y, x = top + row * side, left + column * side
        crop[y : y + side, x : x + side] = rng.integers(150, 255, 3)
    return cv2.GaussianBlur(crop, (3, 3), 0)


def crops_of(shapes, any_turn=False, count=30):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(1, len(shapes) + 1), count)
    crops = [drawn(shapes[k - 1], rng, rng.integers(4) if any_turn else 0) for k in labels]
    return np.stack(crops), labels, np.arange(len(labels)) % 10


EL, JAY, TEE = "x.. x.. xx.", ".x. .x. xx.", "xxx .x. .x."
CROSS, RING, BLOCK, SALTIRE = ".x. xxx .x.", "xxx x.x xxx", "xxx xxx xxx", "x.x .x. x.x"
BAR, LYING = ".x. .x. .x.", "... xxx ..."


def test_a_mirror_that_exchanges_classes_leaves_nothing():
    assert symmetry(*crops_of([EL, JAY, BLOCK])).mirrored < 0.1


def test_symmetrical_shapes_may_be_mirrored_and_those_that_stand_not_turned():
    found = symmetry(*crops_of([TEE, "xxx ... .x.", BAR]))
    assert found.mirrored > 0.8 and found.turned < 0.5


def test_shapes_that_lie_anyhow_may_be_turned():
    found = symmetry(*crops_of([TEE, CROSS, BLOCK], any_turn=True, count=80))
    assert found.mirrored > 0.8 and found.turned > 0.8


def test_two_classes_that_turn_into_each_other_are_enough_against_turns():
    others = [CROSS, RING, BLOCK, SALTIRE]
    assert symmetry(*crops_of(others)).turned > 0.8
    found = symmetry(*crops_of([*others, BAR, LYING]))
    assert found.mirrored > 0.8 and found.turned < 0.5


@pytest.mark.parametrize("case", ["one class", "few objects", "few images", "noise", "none"])
def test_where_nothing_can_be_said(case):
    crops, labels, images = crops_of([EL, BLOCK])
    if case == "one class":
        labels[:] = 1
    elif case == "few objects":
        crops, labels, images = crops_of([EL, BLOCK], count=19)
    elif case == "few images":
        images = images % 4
    elif case == "noise":
        crops = np.random.default_rng(0).integers(0, 255, crops.shape).astype(np.uint8)
    else:
        crops, labels, images = crops[:0], labels[:0], images[:0]
    assert symmetry(crops, labels, images) is None
