"""What is missing, surplus or badly placed, on images whose answer is clear by hand."""

import numpy as np
import pytest

from detcenter.audit import missing_boxes, placement

A, B = [0, 0, 100, 100], [200, 0, 300, 100]


def one(annotation, detection, boxes, found, scores, **flags):
    return [annotation(1, boxes, **flags)], [detection(found, scores)]


def test_support_is_of_any_class_from_an_iou_of_a_half(annotation, detection):
    case = (
        [annotation(1, [A, B])],
        [detection([A, [0, 0, 100, 60], [200, 0, 249, 100]], [0.3, 0.8, 0.9], [2, 1, 1])],
    )
    assert placement(*case).support == pytest.approx([0.8, 0])


def test_where_a_class_is_in_doubt_an_object_is_not(annotation, detection):
    """Of each class the best detection there, and no more than 1 in all."""
    near, in_b = [0, 0, 100, 55], [200, 0, 300, 55]
    found = [near, near, near, [0, 0, 100, 54], in_b, in_b]
    scores, labels = [0.5, 0.4, 0.2, 0.05, 0.7, 0.6], [1, 2, 2, 3, 1, 3]
    where = placement([annotation(1, [A, B])], [detection(found, scores, labels)])
    assert where.scores == pytest.approx([0.95, 1]) and where.iou == pytest.approx([0.55, 0.55])
    assert where.misplaced == pytest.approx([0.95 * 0.5, 0.5])
    assert where.better.tolist() == [near, in_b] and where.support == pytest.approx([0.5, 0.7])


def test_the_surest_detection_that_means_a_box_says_where_it_lies(annotation, detection):
    found = [[0, 0, 100, 80], A, [190, 0, 300, 100]]
    where = placement(*one(annotation, detection, [A, B], found, [0.9, 0.5, 0.6]))
    assert where.better.tolist() == [found[0], found[2]]
    assert where.scores == pytest.approx([0.9, 0.6])
    assert where.iou == pytest.approx([0.8, 100 / 110])
    assert where.misplaced == pytest.approx([0, 0])


@pytest.mark.parametrize("iou, off", [(0.31, 0.98), (0.55, 0.5), (0.79, 0.02), (0.8, 0), (0.9, 0)])
def test_how_probably_a_box_lies_badly(annotation, detection, iou, off):
    found = [[0, 0, 100, 100 * iou]]
    where = placement(*one(annotation, detection, [A], found, [0.6]))
    assert where.misplaced == pytest.approx([0.6 * off], abs=1e-6)


@pytest.mark.parametrize("sure, off", [(0.39, 0.7), (0.41, 0)])
def test_one_that_is_half_as_sure_speaks_for_the_box(annotation, detection, sure, off):
    found = [[0, 0, 100, 45], A]
    where = placement(*one(annotation, detection, [A], found, [0.8, sure]))
    assert where.better.tolist() == [found[0]] and where.iou == pytest.approx([0.45])
    assert where.misplaced == pytest.approx([0.8 * off], abs=1e-6)


def test_a_detection_means_the_box_that_it_overlaps_most(annotation, detection):
    """Two objects that overlap: the detection of one says nothing about the other."""
    near = [40, 0, 140, 100]
    where = placement(*one(annotation, detection, [A, near], [near], [0.9]))
    assert where.misplaced == pytest.approx([0, 0]) and np.isnan(where.better[0]).all()
    assert where.scores.tolist() == pytest.approx([0, 0.9])


def test_missing_is_what_lies_on_nothing(annotation, detection):
    found = [[400, 400, 500, 500], [405, 400, 500, 500], [80, 0, 180, 100], [40, 0, 140, 100]]
    case = one(annotation, detection, [A], found, [0.6, 0.7, 0.5, 0.9])
    missing = missing_boxes(*case)
    # Of the two that are one object the surer; IoU with A is 1/9 and 3/7.
    assert missing.boxes.tolist() == [found[1], found[2]]
    assert missing.scores == pytest.approx([0.7, 0.5]) and missing.images.tolist() == [0, 0]


def test_nothing_is_missing_in_a_crowd_or_on_a_difficult_object(annotation, detection):
    found = [[10, 10, 30, 30], B, [400, 0, 500, 100]]
    case = one(annotation, detection, [A, B], found, [0.9, 0.8, 0.7], crowd=[0], difficult=[1])
    assert missing_boxes(*case).boxes.tolist() == [found[2]]


def test_what_has_no_area_is_not_missing(annotation, detection):
    case = one(annotation, detection, [A], [[400, 400, 400, 450], B], [0.9, 0.5])
    assert missing_boxes(*case).boxes.tolist() == [B]


def test_images_follow_one_another(annotation, detection):
    annotations = [annotation(1, []), annotation(2, [A]), annotation(3, [B, A])]
    detections = [detection([A], [0.4]), detection(), detection([A, [0, 200, 50, 300]], [0.9, 0.8])]
    where, missing = placement(annotations, detections), missing_boxes(annotations, detections)
    assert where.support == pytest.approx([0, 0, 0.9])
    assert missing.images.tolist() == [0, 2] and missing.scores == pytest.approx([0.4, 0.8])
    assert missing.labels.tolist() == [1, 1]


def test_no_images_and_no_boxes(annotation, detection):
    assert len(placement([], []).support) == len(missing_boxes([], []).scores) == 0
    assert len(placement([annotation(1, [])], [detection()]).better) == 0
