"""The fast backend against pycocotools; hypothesis looks for cases that tell them apart."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detcenter.evaluation import coco_metrics, evaluate_detections

CLASSES = ["a", "b", "c"]
# Few values, so that scores tie, boxes coincide and an IoU is exactly 0.5 or 0.75.
coordinates = st.integers(0, 12).map(lambda x: 10.0 * x)
sides = st.sampled_from([10.0, 20.0, 30.0, 40.0, 100.0, 7.3])
boxes = st.tuples(coordinates, coordinates, sides, sides).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)
objects = st.tuples(boxes, st.integers(1, 3), st.booleans(), st.booleans())
found = st.tuples(boxes, st.integers(1, 3), st.sampled_from([0.1, 0.5, 0.9, 1 / 3]))
images = st.lists(st.tuples(st.lists(objects, max_size=4), st.lists(found, max_size=6)), max_size=5)


def flat(metrics):
    for key, value in metrics.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", x) for inner, x in flat(value))
        elif isinstance(value, list):
            yield from ((f"{key}.{i}", x) for i, x in enumerate(value))
        else:
            yield key, value


def are_equal(annotations, detections, classes=CLASSES):
    slow, fast = (
        dict(flat(coco_metrics(annotations, detections, classes, backend)))
        for backend in ("pycocotools", "hotcoco")
    )
    assert fast == pytest.approx(slow, abs=1e-9, nan_ok=True)
    return slow


@settings(max_examples=150, deadline=None)
@given(images, st.permutations(range(-2, 3)))
def test_the_backends_agree(annotation, detection, images, ids):
    annotations, detections = [], []
    for (truth, seen), image_id in zip(images, ids, strict=False):
        of_image, labels, crowd, difficult = zip(*truth, strict=True) if truth else ((),) * 4
        flags = (np.flatnonzero(flag) for flag in (crowd, difficult))
        annotations.append(annotation(image_id, of_image, labels, *flags))
        where, what, scores = zip(*seen, strict=True) if seen else ((),) * 3
        detections.append(detection(where, scores, what))
    are_equal(annotations, detections)


@pytest.mark.parametrize("seed", range(8))
def test_they_agree_on_detections_near_objects(random_case, seed):
    case = random_case(seed, crowd=0.2 * (seed % 2), difficult=0.1 * (seed % 3), tied=seed > 5)
    numbers = are_equal(*case)
    assert 0.1 < numbers["AP"] < 0.9 and len(numbers) > 600


def test_they_agree_on_more_detections_than_count(annotation, detection):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 300, (400, 2))
    many = np.hstack([corners, corners + rng.uniform(1, 99, (400, 2))])
    truth = annotation(1, many[::20], rng.integers(1, 3, 20))
    found = detection(many + rng.normal(0, 2, (400, 4)), rng.random(400), rng.integers(1, 3, 400))
    assert 0 < are_equal([truth], [found])["AP"] < 1


def test_nothing_detected_and_nothing_there(annotation, detection):
    truth = [annotation(2, [[0, 0, 9, 9]]), annotation(1, [])]
    assert are_equal(truth, [detection()] * 2)["AP"] == 0
    assert np.isnan(are_equal(truth[1:], [detection([[0, 0, 9, 9]], [0.5])])["AP"])
    assert np.isnan(are_equal([], [])["AP"])


def test_the_fast_one_prints_nothing(random_case, capfd):
    coco_metrics(*random_case(0), "hotcoco")
    assert capfd.readouterr() == ("", "")


def test_without_hotcoco_one_line_says_what_to_do(random_case, monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(ImportError, match=r"pip install 'detcenter\[fast\]'; pycocotools"):
        evaluate_detections(*random_case(0), "hotcoco")
    assert json.dumps(evaluate_detections(*random_case(0)))


def test_ap_by_size_is_that_of_one_class_alone(random_case):
    annotations, detections, classes = random_case(1, crowd=0.1, difficult=0.1)
    metrics = coco_metrics(annotations, detections, classes)
    for label, name in enumerate(classes, start=1):
        truth, found = (only(label, images) for images in (annotations, detections))
        alone = coco_metrics(truth, found, [name])
        for size in ("small", "medium", "large"):
            got = metrics[f"AP_{size}_by_class"][name]
            assert got == pytest.approx(alone[f"AP_{size}"], abs=1e-12, nan_ok=True)


def only(label, images):
    """The boxes of one class, as class 1."""
    parts = []
    for image in images:
        keep = image["labels"] == label
        arrays = {k: v[keep] for k, v in image.items() if isinstance(v, np.ndarray)}
        parts.append(image | arrays | {"labels": np.ones(keep.sum(), int)})
    return parts


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_curves_by_hand(annotation, detection, backend):
    """Two objects; hit, miss, hit: precision 1 up to recall 1/2, then 2/3."""
    first, second = [0, 0, 50, 50], [100, 0, 150, 50]
    found = detection([first, [200, 0, 250, 50], second], [0.75, 0.5, 0.25])
    truth = annotation(1, [first, second])
    curves = coco_metrics([truth], [found], ["a", "b"], backend)["curves_by_class"]
    assert curves["a"]["precision"] == pytest.approx([1] * 51 + [2 / 3] * 50)
    assert curves["a"]["score"] == [0.75] * 51 + [0.25] * 50
    assert curves["b"] == {"precision": [], "score": []}


def test_the_mean_of_a_curve_is_ap50(random_case):
    metrics = coco_metrics(*random_case(2))
    means = [np.mean(curve["precision"]) for curve in metrics["curves_by_class"].values()]
    assert np.mean(means) == pytest.approx(metrics["AP50"], abs=1e-12)
