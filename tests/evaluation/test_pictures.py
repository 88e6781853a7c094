import numpy as np
import pytest
import torch

from detcenter.evaluation import draw_boxes, side_by_side

CLASSES = [f"class {k}" for k in range(1, 25)]
GREY = 128


@pytest.fixture
def image():
    return np.full((400, 600, 3), GREY, np.uint8)


def painted(picture):
    return (picture != GREY).any(axis=2)


def outline_colour(image, label):
    picture = draw_boxes(image, [[100, 200, 200, 300]], [label], CLASSES)
    return tuple(picture[250, 100])


def test_a_box_is_drawn_where_it_is(image):
    picture = draw_boxes(image, [[100.0, 200.0, 200.0, 300.0]], [1], CLASSES)
    rows, columns = np.nonzero(painted(picture)[200:])
    assert (columns.min(), columns.max(), rows.max() + 200) == (100, 200, 300)
    assert not painted(picture)[210:290, 110:190].any()  # nothing hides the object
    assert not painted(image).any()  # nor is the caller's image changed


def test_each_class_has_its_own_colour(image):
    colours = [outline_colour(image, label) for label in range(1, 25)]
    assert len(set(colours)) == 24
    assert colours == [outline_colour(image, label) for label in range(1, 25)]


@pytest.mark.parametrize(
    "corner", [(0, 0), (599, 0), (0, 399), (599, 399), (599, 200), (300, 399), (900, -50)]
)
def test_no_label_is_cut(image, corner):
    """A box without extent is all label, which must be as large at the edge as in the middle."""
    whole = painted(draw_boxes(image, [[300, 200] * 2], [1], CLASSES, [0.5])).sum()
    at_edge = painted(draw_boxes(image, [corner * 2], [1], CLASSES, [0.5])).sum()
    assert at_edge == pytest.approx(whole, abs=8)  # the box itself is a dot of a few pixels


def test_labels_avoid_each_other(image):
    one = painted(draw_boxes(image, [[300, 200] * 2], [1], CLASSES, [0.5])).sum()
    three = draw_boxes(image, [[300, 200] * 2, [310, 205] * 2, [305, 195] * 2], [1, 2, 3], CLASSES,
                       [0.5, 0.6, 0.7])  # fmt: skip
    assert painted(three).sum() == pytest.approx(3 * one, abs=24)


def test_small_images_are_enlarged():
    small = np.full((100, 150, 3), GREY, np.uint8)
    picture = draw_boxes(small, torch.tensor([[25, 50, 50, 75]]), torch.tensor([1]), CLASSES)
    assert picture.shape == (400, 600, 3) and picture.dtype == np.uint8
    rows, columns = np.nonzero(painted(picture)[200:])
    assert (columns.min(), columns.max(), rows.max() + 200) == (100, 200, 300)


def test_nothing_to_draw(image):
    np.testing.assert_array_equal(draw_boxes(image, np.empty((0, 4)), [], CLASSES, []), image)


def halves(page):
    inner = page[:, 12:-12]
    width = (inner.shape[1] - 12) // 2
    return painted(inner[:, :width]), painted(inner[:, -width:])


def test_side_by_side_shows_detections_from_the_threshold_on(image, annotation, detection):
    box, other = [100, 200, 200, 300], [300, 200, 400, 300]
    arguments = ([image], [annotation(1, [box])], [detection([box, other], [0.4, 0.75])], CLASSES)

    def drawn(threshold):
        # Below the titles: the last 400 rows of picture, above the last gap.
        truth, found = halves(side_by_side(*arguments, threshold)[-412:-12])
        return truth[250, [100, 300]].tolist(), found[250, [100, 300]].tolist()

    assert drawn(0.3) == ([True, False], [True, True])
    assert drawn(0.75) == ([True, False], [False, True])
    assert drawn(0.8) == ([True, False], [False, False])


def test_side_by_side_makes_rows_equally_wide(annotation, detection):
    images = [np.full(size, GREY, np.uint8) for size in ((400, 600, 3), (900, 450, 3))]
    page = side_by_side(images, [annotation(i, []) for i in (1, 2)], [detection()] * 2, CLASSES)
    assert page.shape[1] == 2 * 600 + 3 * 12
    assert page.shape[0] > 400 + 1200  # the second is scaled up to 600 × 1200
    assert side_by_side([], [], [], CLASSES).ndim == 3
