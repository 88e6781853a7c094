"""Clusters of boxes, and anchors that reach them, against loops and the detectors' own anchors."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from detcenter.analysis.anchors import best_ious, cluster_shapes, have_points, matched_share
from detcenter.batched.matching import responsible
from detcenter.models import build_model


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def sides_of(rng, scales, ratios, count=40, noise=0.03):
    """Boxes around every pair of a scale and a ratio."""
    pairs = np.array([(s * r**0.5, s / r**0.5) for s in scales for r in ratios])
    return np.repeat(pairs, count, axis=0) * np.exp(rng.normal(0, noise, (len(pairs) * count, 2)))


def iou_of_sides(a, b):
    common = min(a[0], b[0]) * min(a[1], b[1])
    return common / (a[0] * a[1] + b[0] * b[1] - common)


def test_planted_clusters_are_found(rng):
    sides = sides_of(rng, [0.05, 0.12, 0.3], [0.5, 1.2])
    shapes = cluster_shapes(rng.permutation(sides), 3, 2)
    np.testing.assert_allclose(shapes.scales, [0.05, 0.12, 0.3], rtol=0.02)
    np.testing.assert_allclose(shapes.ratios, [0.5, 1.2], rtol=0.02)


def test_one_cluster_is_the_geometric_mean(rng):
    sides = rng.uniform(0.1, 0.5, (30, 2))
    shapes = cluster_shapes(sides, 1, 1)
    assert shapes.scales == pytest.approx([sides.prod(axis=1).prod() ** (1 / 60)])
    assert shapes.ratios == pytest.approx([(sides[:, 0] / sides[:, 1]).prod() ** (1 / 30)])


def test_clusters_are_the_means_of_their_boxes(rng):
    """What Lloyd's rounds end in, by loops: every box with the cluster of the highest IoU."""
    sides = np.exp(rng.normal(-2, 0.5, (200, 2)))
    scales, ratios = cluster_shapes(sides, 3, 2)
    clusters = [(i, j) for i in range(len(scales)) for j in range(len(ratios))]
    assert len(clusters) == 6
    own = []
    for side in sides:
        ious = [
            iou_of_sides(side, (scales[i] * ratios[j] ** 0.5, scales[i] / ratios[j] ** 0.5))
            for i, j in clusters
        ]
        own.append(clusters[int(np.argmax(ious))])
    for axis, centers, values in (
        (0, scales, np.log(sides).mean(axis=1)),
        (1, ratios, np.log(sides[:, 0] / sides[:, 1])),
    ):
        for k, center in enumerate(centers):
            mine = [value for value, pair in zip(values, own, strict=True) if pair[axis] == k]
            assert np.log(center) == pytest.approx(np.mean(mine), abs=1e-9)


def test_equal_boxes_are_one_cluster_and_any_seed_finds_clear_ones(rng):
    shapes = cluster_shapes(np.full((7, 2), 0.2), 3, 3)
    assert len(shapes.scales) == len(shapes.ratios) == 1
    sides = sides_of(rng, [0.05, 0.3], [1.0])
    for seed in (0, 1):
        np.testing.assert_allclose(cluster_shapes(sides, 2, 1, seed).scales, [0.05, 0.3], rtol=0.02)
    for wrong in (np.zeros((0, 2)), np.array([[0.1, 0.0]])):
        with pytest.raises(ValueError, match="one box or more"):
            cluster_shapes(wrong, 1, 1)


@pytest.mark.parametrize("detector", ["ssd", "fasterrcnn", "retinanet"])
@pytest.mark.parametrize("size", [64, 100])
def test_the_best_anchor_is_that_of_all_of_the_detector(detector, size, rng):
    scales, ratios = [[0.11, 0.2], [0.3, 0.55]], [0.6, 1.3]
    anchors = anchors_of(detector, size, [8, 16], scales, ratios)
    corner = rng.uniform(0, 0.9, (300, 2))
    far = corner + rng.uniform(0.02, 0.6, (300, 2))
    boxes = np.concatenate([corner, np.minimum(far, 1)], axis=1)
    expected = box_iou(torch.from_numpy(boxes * size), anchors.double()).max(dim=1).values
    found = best_ious(boxes, size, [8, 16], scales, ratios, detector)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def anchors_of(detector, size, strides, scales, ratios):
    """As the model itself lays them over its feature maps."""
    model = build_model(
        detector,
        2,
        backbone="shufflenet_v2_x0_5",
        image_size=size,
        strides=strides,
        anchor_scales=scales,
        aspect_ratios=ratios,
        top_stride=16,
    ).eval()
    images = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        maps = list(model.backbone(images).values())
    generator = (model.rpn if detector == "fasterrcnn" else model).anchor_generator
    return generator(ImageList(images, [(size, size)]), maps)[0]


@pytest.mark.parametrize(("size", "strides"), [(160, [8]), (160, [8, 16]), (150, [8, 16, 32])])
def test_boxes_have_points_where_fcos_matches_them(size, strides, rng):
    """Every box alone; some are so thin that they lie between all points."""
    corner = rng.uniform(0, 0.95, (300, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.01, 0.9, (300, 2)) ** 2], axis=1)
    boxes = np.minimum(boxes, 1)
    maps = [torch.zeros(1, 1, *[-(-size // stride)] * 2) for stride in strides]
    images = ImageList(torch.zeros(1, 3, size, size), [(size, size)])
    points = AnchorGenerator(tuple((s,) for s in strides), ((1.0,),) * len(strides))(images, maps)
    each = [torch.from_numpy(box[None] * size) for box in boxes]
    counts = [x[0, 0].numel() for x in maps]
    matched = responsible(each, [points[0].double()] * len(each), counts, 1.5)
    expected = (matched >= 0).any(1).numpy()
    np.testing.assert_array_equal(have_points(boxes, size, strides), expected)
    assert 0.3 < expected.mean() < 1


def test_the_share_by_hand():
    """Anchors of 8 pixels at the middles of four cells; half a cell aside a third overlaps."""
    boxes = np.array([[0, 0, 8, 8], [4, 0, 12, 8], [2, 0, 10, 8], [0, 0, 16, 16]]) / 16
    ious = best_ious(boxes, 16, [8], [[0.5]], [1.0])
    np.testing.assert_allclose(ious, [1, 1 / 3, 6 / 10, 1 / 4])
    assert matched_share(ious) == 0.5 and matched_share(ious, iou=0.2) == 1
