"""Proposals and pooled boxes against torchvision's own loops."""

import pytest
import torch
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign

from detcenter.adoption import adopt
from detcenter.batched.pooling import pooled
from detcenter.batched.proposals import Proposals

LEVELS = [900, 300, 40]
SHAPES = [(90, 120), (64, 64), (128, 100)]


def network(before, after, **options):
    top = {"pre_nms_top_n": {"training": before}, "post_nms_top_n": {"training": after}}
    return RegionProposalNetwork(
        AnchorGenerator(), RPNHead(1, 3), 0.7, 0.3, 16, 0.5, **top, **options
    )


def drawn(rounded, seed):
    """Crowds, of which some lie outside of their images; scores that tie where they are rounded."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.rand(3, 30, 2, generator=generator) * 140
    at = torch.randint(0, 30, (3, sum(LEVELS)), generator=generator)
    corner = middle.gather(1, at.unsqueeze(2).expand(-1, -1, 2))
    corner = corner + torch.rand(corner.shape, generator=generator) * 6
    boxes = torch.cat([corner, corner + 10 + torch.rand(corner.shape, generator=generator) * 9], 2)
    scores = torch.randn(3, sum(LEVELS), generator=generator) * 3
    return boxes, (scores.round() if rounded else scores).flatten().unsqueeze(1)


# On a CPU torchvision moves up to 1,000 boxes of an image apart by level; of more it takes the
# levels one by one.
@pytest.mark.parametrize("before", [200, 1000])
@pytest.mark.parametrize("after", [30, 2000])
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("score_thresh", [0.0, 0.4, 1.0])
def test_proposals_are_torchvisions(before, after, rounded, score_thresh):
    rpn = network(before, after, nms_thresh=0.6, score_thresh=score_thresh)
    given = *drawn(rounded, before + after), SHAPES, LEVELS
    expected = rpn.filter_proposals(*given)
    adopt(rpn, Proposals)
    found = rpn.filter_proposals(*given)
    for one, other in zip(found, expected, strict=True):
        assert [len(x) for x in one] == [len(x) for x in other]
        assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))
    numbers = [len(x) for x in found[0]]
    assert max(numbers) == 0 if score_thresh == 1 else 0 < max(numbers) <= after


def test_the_small_are_left_out():
    rpn = network(200, 2000, nms_thresh=0.6)
    given = *drawn(False, 0), SHAPES, LEVELS
    everything = sum(map(len, rpn.filter_proposals(*given)[0]))
    rpn.min_size = 12.0
    expected, _ = rpn.filter_proposals(*given)
    adopt(rpn, Proposals)
    found, _ = rpn.filter_proposals(*given)
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    assert 0 < sum(map(len, found)) < everything


@pytest.mark.parametrize("counts", [(5, 0, 9), (0, 0, 0)])
def test_boxes_are_pooled_as_torchvision_does(counts):
    generator = torch.Generator().manual_seed(0)
    maps = {
        name: torch.rand(3, 4, side, side, generator=generator).requires_grad_()
        for name, side in [("a", 32), ("b", 16), ("c", 8)]
    }
    boxes = []
    for count in counts:
        corners = torch.rand(count, 2, generator=generator) * 60
        boxes.append(torch.cat([corners, corners + 4 + corners.flip(1)], 1))
    pooling = MultiScaleRoIAlign(["a", "b", "c"], 3, 2, canonical_scale=32)
    expected = pooling(maps, boxes, SHAPES)
    levels = pooling.map_levels(boxes)
    assert len(levels.unique()) == (3 if any(counts) else 0)
    found = pooled(list(maps.values()), boxes, levels, pooling.scales, (3, 3), 2)
    assert torch.equal(found, expected)
    gradients = [
        torch.autograd.grad(x.square().sum(), list(maps.values())) for x in (found, expected)
    ]
    torch.testing.assert_close(*gradients)
