import math

import numpy as np
import pytest

from detcenter.evaluation import ERRORS, coco_metrics, error_kinds, error_split, errors_table
from detcenter.evaluation.matching import surest_first

BOX, FAR = [0, 0, 100, 100], [300, 300, 400, 400]
HALF_OFF = [60, 0, 160, 100]  # IoU 40 / 160 with BOX


def counts(*images):
    annotations, detections = zip(*images, strict=True)
    return {k: v["count"] for k, v in error_split(annotations, detections).items() if v["count"]}


@pytest.mark.parametrize(
    ("boxes", "labels", "expected"),
    [
        ([BOX], [1], {}),
        ([BOX], [2], {"cls": 1}),
        ([HALF_OFF], [1], {"loc": 1}),
        ([HALF_OFF], [2], {"both": 1, "miss": 1}),
        ([BOX, BOX], [1, 1], {"dupe": 1}),
        ([FAR], [1], {"bkg": 1, "miss": 1}),
        ([], [], {"miss": 1}),
        ([BOX, HALF_OFF, FAR, BOX], [1, 1, 1, 2], {"loc": 1, "bkg": 1, "cls": 1}),
    ],
)
def test_one_object_by_hand(annotation, detection, boxes, labels, expected):
    found = detection(boxes, np.linspace(0.9, 0.5, len(boxes)), labels)
    assert counts((annotation(1, [BOX]), found)) == expected


def test_what_mending_gives_by_hand(annotation, detection):
    """Class a has two objects: one found behind a box of nothing, one called b.

    AP of a: hit at rank 2, precision 1/2 up to recall 1/2, so 1/2 * 51/101. Class b has one object,
    which is missed: AP 0.
    """
    truth = [annotation(1, [BOX, FAR]), annotation(2, [BOX], [2])]
    found = [detection([[150, 0, 199, 50], BOX, FAR], [0.9, 0.8, 0.7], [1, 1, 2]), detection()]
    base = 0.5 * 51 / 101 / 2
    errors = error_split(truth, found)
    assert {k: v["count"] for k, v in errors.items()} == dict.fromkeys(ERRORS, 0) | {
        "cls": 1, "bkg": 1, "miss": 1
    }  # fmt: skip
    gains = {kind: error["dAP"] for kind, error in errors.items()}
    # a: miss, hit, hit: precision 2/3 everywhere; b: nothing found
    assert gains["cls"] == pytest.approx(2 / 3 / 2 - base)
    assert gains["bkg"] == pytest.approx(51 / 101 / 2 - base)
    assert gains["loc"] == gains["both"] == gains["dupe"] == 0
    assert gains["miss"] == 0  # b has nothing to find then, and nothing found


@pytest.mark.parametrize("seed", range(10))
def test_equals_hotcocos(confused_case, hotcoco_evaluation, seed):
    """Which has the counts of the paper's own toolbox, tidecv."""
    annotations, detections, classes = confused_case(seed)
    theirs = hotcoco_evaluation(annotations, detections, classes).tide_errors()
    ours = error_split(annotations, detections)
    for kind, error in ours.items():
        assert error["count"] == theirs["counts"][kind.capitalize()]
        assert error["dAP"] == pytest.approx(theirs["delta_ap"][kind.capitalize()], abs=1e-9)
    assert sum(error["count"] > 0 for error in ours.values()) >= 5


@pytest.mark.parametrize("seed", range(3))
def test_what_is_missed_is_all_that_right_detections_lack(confused_case, seed):
    """Of COCO's AP, but for classes of which nothing was found."""
    annotations, detections, classes = confused_case(seed, crowd=0.2, difficult=0.2)
    right = [truth_as_detections(annotation) for annotation in annotations]
    half = [{k: v[: len(v) // 2] for k, v in found.items()} for found in right]
    errors = error_split(annotations, half)
    assert {kind for kind, error in errors.items() if error["count"]} == {"miss"}
    ap50 = coco_metrics(annotations, half, classes)["AP50"]
    found, there = (
        {int(x) for image in images for x in image["labels"]} for images in (half, right)
    )
    assert errors["miss"]["dAP"] == pytest.approx(len(found) / len(there) - ap50, abs=1e-12)


def truth_as_detections(annotation):
    ordinary = ~(annotation["iscrowd"] | annotation["difficult"])
    boxes, labels = annotation["boxes"][ordinary], annotation["labels"][ordinary]
    return {"boxes": boxes, "labels": labels, "scores": np.linspace(0.9, 0.1, len(boxes))}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tied", [False, True])
def test_gains_are_on_top_of_coco_s_ap(confused_case, seed, tied):
    """COCO's AP without the detections of a kind, which took nothing, is higher by their dAP."""
    case = confused_case(seed, crowd=0.2, difficult=0.3, tied=tied)
    annotations, detections, classes = case
    for iou, key in ((0.5, "AP50"), (0.75, "AP75")):
        errors, base = error_split(annotations, detections, iou), coco_metrics(*case)[key]
        for kind in ("both", "dupe", "bkg"):
            kept = [without(*pair, kind, iou) for pair in zip(*case[:2], strict=True)]
            gain = coco_metrics(annotations, kept, classes)[key] - base
            assert errors[kind]["dAP"] == pytest.approx(gain, abs=1e-9)
    assert error_split(annotations, detections)["bkg"]["dAP"] > 0


def without(annotation, detection, kind, iou):
    kept = error_kinds(annotation, detection, iou)[0] != kind
    return {key: x[kept] for key, x in surest_first(detection)._asdict().items()}


def test_a_difficult_object_takes_one_and_a_crowd_any_number(annotation, detection):
    found = detection([BOX, BOX, FAR], [0.9, 0.8, 0.7], [1, 1, 2])
    assert counts((annotation(1, [BOX, FAR], [1, 2], crowd=[0]), found)) == {}
    assert counts((annotation(1, [BOX, FAR], [1, 2], difficult=[0]), found)) == {"dupe": 1}
    # An ordinary object comes first, whatever lies closer.
    both = annotation(1, [BOX, BOX], [1, 1], difficult=[0])
    assert counts((both, detection([BOX, BOX, BOX], [0.9, 0.8, 0.7], [1, 1, 1]))) == {"dupe": 1}


@pytest.mark.parametrize("kind", ["crowd", "difficult"])
def test_ignored_objects_are_for_their_class_alone(annotation, detection, kind):
    truth = annotation(1, [BOX, FAR], [1, 2], **{kind: [0]})
    of_another_class = detection([BOX, FAR], [0.9, 0.7], [2, 2])
    assert counts((truth, of_another_class)) == {"bkg": 1}


def test_without_objects_gains_are_undefined(annotation, detection):
    errors = error_split([annotation(1, [])], [detection([BOX], [0.5])])
    assert errors["bkg"]["count"] == 1 and math.isnan(errors["bkg"]["dAP"])
    assert all(error["count"] == 0 for error in error_split([], []).values())


def test_table():
    errors = {kind: {"count": i, "dAP": i / 8} for i, kind in enumerate(ERRORS)}
    lines = errors_table(errors | {"miss": {"count": 12, "dAP": math.nan}}).splitlines()
    assert lines[0].split() == ["error", "count", "dAP50"] and len(lines) == 8
    assert lines[2] == "loc    its box is off                         1  0.125"
    assert lines[6] == "miss   not found                             12      –"
