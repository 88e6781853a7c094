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
    return [annotation | {"image_id": number} for number, (annotation, _) in enumerate(repeated)], [
        found for _, found in repeated
    ]


@pytest.fixture(scope="module")
def case(random_case):
    """Twelve images, in an order that is not that of their ids; some have no objects."""
    return random_case(3, crowd=0.1, difficult=0.1)


def test_every_image_once_is_cocos_ap(case):
    annotations, detections, classes = case
    ap = ResampledAP(*case)(np.ones((1, 12), dtype=int))
    expected = coco_metrics(annotations, detections, classes)["AP"]
    assert 0.1 < expected < 0.9
    assert ap == pytest.approx([expected], abs=1e-12)


def test_weights_are_copies_of_images(case):
    annotations, detections, classes = case
    weights = resampled_weights(12, 20, seed=1)
    assert weights.shape == (20, 12) and (weights.sum(axis=1) == 12).all()
    expected = [
        coco_metrics(*copies(annotations, detections, row), classes)["AP"] for row in weights
    ]
    assert ResampledAP(*case)(weights) == pytest.approx(expected, abs=1e-12)


def test_an_interval_as_scipys_bootstrap_gives_it(case):
    ap = ResampledAP(*case)

    def statistic(images):
        return ap(np.bincount(images, minlength=12)[None])[0]

    theirs = stats.bootstrap(
        (np.arange(12),),
        statistic,
        n_resamples=1000,
        vectorized=False,
        method="percentile",
        rng=0,
    ).confidence_interval
    ours = np.percentile(ap(resampled_weights(12, 4000)), [2.5, 97.5])
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.01)


def test_without_objects_or_detections(case):
    annotations, detections, classes = case
    ap = ResampledAP(*case)
    empty = [number for number, image in enumerate(annotations) if not len(image["labels"])]
    assert empty and np.isnan(ap(np.eye(12, dtype=int)[empty])).all()
    nothing = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, dtype=int)}
    assert ResampledAP(annotations, [nothing] * 12, classes)(np.ones((1, 12), dtype=int)) == 0
