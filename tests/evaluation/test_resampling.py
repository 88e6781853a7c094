"""AP of weighted images against pycocotools on data sets in which images really occur again."""

import numpy as np
import pytest
from scipy import stats

from detcenter.evaluation import ResampledAP, coco_metrics, resampled_weights


def copies(annotations, detections, weights):
    """The data set in which image i occurs ``weights[i]`` times."""
    repeated = [
        (annotation, found)
        for annotation, found, weight in zip(annotations, detections, weights, strict=True)
        for _ in range(weight)
    ]
    # The ids of copies follow one another, where that of their image is among the others.
    named = [
        annotation | {"image_id": 1000 * annotation["image_id"] + number}
        for number, (annotation, _) in enumerate(repeated)
    ]
    return named, [found for _, found in repeated]


@pytest.fixture(scope="module")
def case(random_case):
    """Twelve images, in an order that is not that of their ids; some have no objects."""
    return random_case(3, crowd=0.1, difficult=0.1)


def test_every_image_once_is_cocos_ap(case):
    annotations, detections, classes = case
    found = ResampledAP(*case)(np.ones((1, 12), dtype=int))
    expected = coco_metrics(annotations, detections, classes)
    assert 0.1 < expected["AP75"] < expected["AP"] < expected["AP50"] < 0.9
    for name in ("AP", "AP50", "AP75"):
        assert found[name] == pytest.approx([expected[name]], abs=1e-12)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_copies_of_images(random_case, seed, tied):
    """Ids are in no order; with ties whole images have but four scores."""
    case = random_case(seed, crowd=0.1, difficult=0.1, tied=tied)
    annotations, detections, classes = case
    assert [a["image_id"] for a in annotations] != sorted(a["image_id"] for a in annotations)
    weights = resampled_weights(12, 10, seed=1)
    assert weights.shape == (10, 12) and (weights.sum(axis=1) == 12).all() and weights.max() > 2
    expected = [coco_metrics(*copies(annotations, detections, row), classes) for row in weights]
    for name, found in ResampledAP(*case)(weights).items():
        assert found == pytest.approx([of[name] for of in expected], abs=1e-12)


def test_among_equal_scores_the_lowest_id_is_first(annotation, detection):
    """A hit in the image of the higher id, a miss in the other: COCO's precision is a half."""
    there, elsewhere = [[0, 0, 9, 9]], [[50, 50, 59, 59]]
    annotations = [annotation(2, there), annotation(1, [])]
    detections = [detection(there, [0.5]), detection(elsewhere, [0.5])]
    assert ResampledAP(annotations, detections, ["a"])(np.ones((1, 2), int))["AP"] == 0.5


def test_in_copies_equal_scores_of_an_image_take_turns(annotation, detection):
    """Hit, miss, hit, miss: precision 1 up to recall 1/2, then 2/3; not hit, hit, miss, miss."""
    boxes = [[0, 0, 9, 9], [50, 50, 59, 59]]
    ap = ResampledAP([annotation(1, boxes[:1])], [detection(boxes, [0.5, 0.5])], ["a"])
    assert ap(np.array([[2]]))["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_an_interval_as_scipys_bootstrap_gives_it(case):
    ap = ResampledAP(*case)

    def statistic(images):
        return ap(np.bincount(images, minlength=12)[None])["AP"][0]

    theirs = stats.bootstrap(
        (np.arange(12),),
        statistic,
        n_resamples=1000,
        vectorized=False,
        method="percentile",
        rng=0,
    ).confidence_interval
    ours = np.percentile(ap(resampled_weights(12, 4000))["AP"], [2.5, 97.5])
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.01)


def test_without_objects_or_detections(case):
    annotations, detections, classes = case
    ap = ResampledAP(*case)
    empty = [number for number, image in enumerate(annotations) if not len(image["labels"])]
    assert empty and np.isnan(ap(np.eye(12, dtype=int)[empty])["AP50"]).all()
    nothing = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, dtype=int)}
    found = ResampledAP(annotations, [nothing] * 12, classes)(np.ones((1, 12), dtype=int))
    assert found == {"AP": 0, "AP50": 0, "AP75": 0}
