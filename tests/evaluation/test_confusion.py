import numpy as np
import pytest

from detcenter.evaluation import confusion_matrix, confusion_table, most_confused

BOX, OTHER = [0, 0, 100, 100], [200, 0, 300, 100]


def share(box, other, of_box):
    """IoU, or the part of `box` that lies in `other`."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    inside = max(width, 0) * max(height, 0)
    first, second = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return inside / (first if of_box else first + second - inside)


def naive_matrix(annotations, detections, classes, iou, score):
    matrix = np.zeros((len(classes) + 1, len(classes) + 1), int)
    for truth, found in zip(annotations, detections, strict=True):
        boxes, taken = truth["boxes"].tolist(), set()
        ignored = truth["iscrowd"] | truth["difficult"]
        for i in sorted(range(len(found["scores"])), key=lambda i: -found["scores"][i]):
            box, label = found["boxes"][i].tolist(), found["labels"][i]
            if found["scores"][i] < score:
                continue
            best, best_iou = None, iou
            for j, other in enumerate(boxes):
                if not ignored[j] and j not in taken and share(box, other, False) >= best_iou:
                    best, best_iou = j, share(box, other, False)
            if best is not None:
                taken.add(best)
                matrix[truth["labels"][best] - 1, label - 1] += 1
            elif not any(
                ignored[j] and share(box, other, truth["iscrowd"][j]) >= iou
                for j, other in enumerate(boxes)
            ):
                matrix[-1, label - 1] += 1
        for j in range(len(boxes)):
            if not ignored[j] and j not in taken:
                matrix[truth["labels"][j] - 1, -1] += 1
    return matrix


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(6))
def test_equals_a_naive_loop(confused_case, seed, iou):
    case = confused_case(seed, crowd=0.2, difficult=0.2, tied=seed > 3)
    for score in (0.4, 0):
        expected = naive_matrix(*case, iou, score)
        assert np.array_equal(confusion_matrix(*case, iou=iou, score=score), expected)
    confused = expected[:-1, :-1].sum() - np.trace(expected[:-1, :-1])
    assert confused > 0 and expected[-1].any() and expected[:, -1].any()


@pytest.mark.parametrize("seed", range(6))
def test_equals_hotcocos(confused_case, hotcoco_evaluation, seed):
    """Without crowds and difficult objects, on which it calls detections wrong."""
    case = confused_case(seed)
    evaluation = hotcoco_evaluation(*case)
    for score in (0, 0.5):
        theirs = evaluation.confusion_matrix(iou_thr=0.5, min_score=score)["matrix"]
        assert np.array_equal(confusion_matrix(*case, score=score), theirs)


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "expected"),
    [
        ([BOX], [1], [0.5], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
        ([BOX], [2], [0.9], [[0, 1, 0], [0, 0, 0], [0, 0, 0]]),
        ([BOX], [1], [0.4], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),  # not sure enough: missed
        ([BOX, OTHER], [1, 2], [0.9, 0.9], [[1, 0, 0], [0, 0, 0], [0, 1, 0]]),
        # The surer one takes the object under the wrong name; the right one comes too late.
        ([BOX, BOX], [1, 2], [0.8, 0.9], [[0, 1, 0], [0, 0, 0], [1, 0, 0]]),
        ([], [], [], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),
    ],
)
def test_one_object_by_hand(annotation, detection, boxes, labels, scores, expected):
    found = detection(boxes, scores, labels)
    assert confusion_matrix([annotation(1, [BOX])], [found], ["a", "b"]).tolist() == expected


def test_of_equal_overlaps_a_detection_takes_its_own_class(annotation, detection):
    for labels in ([1, 2], [2, 1]):
        truth = annotation(1, [BOX, BOX], labels)
        matrix = confusion_matrix([truth], [detection([BOX] * 2, [0.9, 0.8], [2, 1])], ["a", "b"])
        assert matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("kind", ["crowd", "difficult"])
def test_ignored_objects_are_neither_missed_nor_confused(annotation, detection, kind):
    truth = annotation(1, [BOX], **{kind: [0]})
    for found in (detection(), detection([BOX, BOX], [0.9, 0.8], [1, 2])):
        assert not confusion_matrix([truth], [found], ["a", "b"]).any()


def test_no_images():
    assert confusion_matrix([], [], ["a"]).tolist() == [[0, 0], [0, 0]]


def test_the_most_frequent_confusions():
    matrix = np.array([[5, 3, 0, 2], [1, 9, 4, 0], [0, 0, 7, 0], [8, 8, 8, 0]])
    pairs = most_confused(matrix, ["a", "b", "c"])
    assert pairs == [("b", "c", 4, 4 / 14), ("a", "b", 3, 0.3), ("b", "a", 1, 1 / 14)]
    assert most_confused(matrix, ["a", "b", "c"], top=1) == pairs[:1]
    labels = ["a", "b", "c", "background"]
    confusion = {"labels": labels, "score": 0.5, "matrix": matrix.tolist()}
    assert (
        confusion_table(confusion, top=2)
        == """\
class  taken for  times  of its objects
b      c              4           28.6%
a      b              3           30.0%
(detections with a score of 0.5 and more)"""
    )
    confusion["matrix"] = np.diag([1, 2, 3, 0]).tolist()
    assert "no class is taken for another" in confusion_table(confusion)


def test_where_nothing_is_found_nothing_is_said_of_classes(annotation, detection):
    for boxes, said in (
        ([], "nothing is detected"),
        ([OTHER], "no object is found; 1 detection lies on none"),
        ([OTHER, OTHER], "no object is found; 2 detections lie on none"),
    ):
        found = detection(boxes, [0.9] * len(boxes))
        matrix = confusion_matrix([annotation(1, [BOX])], [found], ["a"])
        confusion = {"labels": ["a", "background"], "score": 0.5, "matrix": matrix.tolist()}
        assert confusion_table(confusion) == f"at scores of 0.5 and more {said}"
