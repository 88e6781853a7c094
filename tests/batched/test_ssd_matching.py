"""The matching of a batch against torchvision's, image by image."""

import pytest
import torch
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from detcenter.batched.boxes import pairwise_iou
from detcenter.batched.ssd_matching import matches


def on_a_grid(count, generator, cells=6):
    """Boxes with corners on few points, so that many IoUs are equal."""
    low = torch.randint(0, cells, (count, 2), generator=generator)
    sides = torch.randint(1, cells, (count, 2), generator=generator)
    return torch.cat([low, low + sides], 1).float()


def one_by_one(boxes, anchors, threshold):
    matcher = SSDMatcher(threshold)
    nothing = torch.full((len(anchors[0]),), -1)
    pairs = zip(boxes, anchors, strict=True)
    return torch.stack([matcher(box_iou(b, a)) if len(b) else nothing for b, a in pairs])


@pytest.mark.parametrize("counts", [[3, 0, 9, 1], [5, 5], [0, 0, 0], [40], [0, 2]])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 1.0])
def test_matches_are_torchvisions_ties_included(counts, threshold):
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        boxes = [on_a_grid(count, generator) for count in counts]
        anchors = [on_a_grid(50, generator) for _ in counts]
        for of_images in (anchors, anchors[:1] * len(counts)):
            expected = one_by_one(boxes, of_images, threshold)
            assert torch.equal(matches(boxes, of_images, threshold), expected)


def test_the_last_of_several_objects_with_the_same_best_anchor_gets_it():
    anchors = torch.tensor([[0.0, 0.0, 9.0, 9.0], [90.0, 90.0, 99.0, 99.0]])
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 8.0, 8.0], [4.0, 4.0, 8.0, 8.0]])
    assert matches([boxes, boxes[:2]], [anchors] * 2, 0.5).tolist() == [[2, -1], [1, -1]]


@pytest.mark.parametrize("of_boxes", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("of_anchors", [torch.float32, torch.bfloat16])
def test_ious_are_torchvisions_to_the_bit(of_boxes, of_anchors):
    generator = torch.Generator().manual_seed(0)
    boxes, anchors = (300 * torch.rand(count, 4, generator=generator) for count in (30, 70))
    boxes[:, 2:] += boxes[:, :2]
    anchors[:, 2:] += anchors[:, :2]
    boxes, anchors = boxes.to(of_boxes), anchors.to(of_anchors)
    expected = box_iou(boxes, anchors)
    got = pairwise_iou(boxes, anchors)
    assert got.dtype == expected.dtype and torch.equal(got, expected)
