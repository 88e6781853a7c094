"""Matches against torchvision's own loops, on boxes of small whole numbers, which tie often."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.ops import box_iou

from detcenter.adoption import adopt
from detcenter.batched import matching
from detcenter.batched.matching import RoIMatching, RPNMatching, matched, responsible


def drawn(counts, seed, most=6):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in counts:
        corners = torch.randint(0, most, (count, 2), generator=generator)
        sides = torch.randint(1, most, (count, 2), generator=generator)
        found.append(torch.cat([corners, corners + sides], 1).float())
    return found


def by_image(boxes, anchors, matcher):
    return [
        matcher(box_iou(b, a)) if len(b) else torch.full((len(a),), -1)
        for b, a in zip(boxes, anchors, strict=True)
    ]


MATCHERS = [
    Matcher(0.5, 0.4, allow_low_quality_matches=True),
    Matcher(0.7, 0.3, allow_low_quality_matches=True),
    Matcher(0.5, 0.5),
    Matcher(0.6, 0.0),
]
COUNTS = [(3, 0, 5), (0, 0, 0), (1,), (2, 2), (40, 1, 7, 3)]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("matcher", MATCHERS, ids=["retina", "rpn", "roi", "none is low"])
@pytest.mark.parametrize("at_once", [1, 300, 1 << 20])
def test_matches_are_torchvisions(monkeypatch, counts, matcher, at_once):
    monkeypatch.setitem(matching._AT_ONCE, "cpu", at_once)
    for seed in range(5):
        boxes = drawn(counts, seed)
        anchors = drawn([30 + 5 * (seed % 2) * n for n in range(len(counts))], 100 + seed)
        expected = by_image(boxes, anchors, matcher)
        found = matched(boxes, anchors, matcher)
        for image, one in enumerate(expected):
            assert torch.equal(found[image, : len(one)], one)


def test_the_drawn_boxes_tie():
    """Else the test above would prove less than it says."""
    (boxes,), (anchors,) = drawn([40], 0), drawn([30], 100)
    quality = box_iou(boxes, anchors)
    best = quality.max(0).values
    assert ((quality == best).sum(0) > 1).any()
    assert ((quality == quality.max(1, keepdim=True).values).sum(1) > 1).any()
    low = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    assert not torch.equal(low(quality), Matcher(0.5, 0.4)(quality))


def test_an_object_apart_from_all_anchors_takes_as_torchvision_lets_it():
    """All anchors are equally good for it, so none is left to the background."""
    boxes, anchors = [torch.tensor([[90.0, 90, 99, 99], [0, 0, 9, 9]])], drawn([20], 1)
    low = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    (expected,) = by_image(boxes, anchors, low)
    assert torch.equal(matched(boxes, anchors, low)[0], expected) and (expected >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_round_as_torchvision_does(dtype):
    boxes = [x / 3 for x in drawn((9, 4), 0)]
    anchors = [(x / 3).to(dtype) for x in drawn((30, 30), 1)]
    low = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    for given in (boxes, [x.to(dtype) for x in boxes]):
        expected = torch.stack(by_image(given, anchors, low))
        assert torch.equal(matched(given, anchors, low), expected)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_points_are_matched_as_fcos_does(monkeypatch, counts, at_once):
    monkeypatch.setitem(matching._AT_ONCE, "cpu", at_once)
    generator = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    maps = [torch.zeros(len(counts), 1, side, side) for side in (16, 8, 4)]
    images = SimpleNamespace(
        tensors=torch.zeros(1, 3, 128, 128), image_sizes=[(128, 128)] * len(counts)
    )
    anchors, per_level = generator(images, maps), [256, 64, 16]
    noted = []
    model = SimpleNamespace(
        center_sampling_radius=1.5,
        head=SimpleNamespace(compute_loss=lambda *given: noted.append(given[3])),
    )
    positives = 0
    # In and around the image, of sizes for each of the levels and beyond.
    for seed, (scale, shift) in enumerate([(2, 0), (4, 0), (24, 300)]):
        boxes = [x * scale - shift for x in drawn(counts, seed, most=30)]
        targets = [{"boxes": of_image} for of_image in boxes]
        FCOS.compute_loss(model, targets, {}, anchors, per_level)
        expected = torch.stack(noted.pop())
        assert torch.equal(responsible(boxes, anchors, per_level, 1.5), expected)
        positives += int((expected >= 0).sum())
    assert positives or not any(counts)


def rpn(**options):
    sampling = {"batch_size_per_image": 16, "positive_fraction": 0.5}
    top = {"pre_nms_top_n": {"training": 50}, "post_nms_top_n": {"training": 20}}
    return RegionProposalNetwork(
        AnchorGenerator(), RPNHead(1, 3), 0.7, 0.3, **sampling, **top, nms_thresh=0.7, **options
    )


def roi_heads():
    return RoIHeads(None, None, None, 0.5, 0.4, 16, 0.25, None, 0.05, 0.5, 10)


@pytest.mark.parametrize("counts", COUNTS)
def test_a_region_proposal_network_gets_its_labels_and_boxes(counts):
    network = rpn()
    anchors = drawn([30] * len(counts), 100)
    targets = [{"boxes": of_image} for of_image in drawn(counts, 0)]
    expected = network.assign_targets_to_anchors(anchors, targets)
    adopt(network, RPNMatching)
    found = network.assign_targets_to_anchors(anchors, targets)
    for one, other in zip(expected, found, strict=True):
        assert len(one) == len(other)
        assert all(
            torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(one, other, strict=True)
        )


@pytest.mark.parametrize("counts", COUNTS)
def test_the_heads_get_their_objects_and_labels(counts):
    heads = roi_heads()
    boxes = drawn(counts, 0)
    proposals = drawn([20 + 3 * n for n in range(len(counts))], 100)
    labels = [torch.arange(1, 1 + count) for count in counts]
    expected = heads.assign_targets_to_proposals(proposals, boxes, labels)
    adopt(heads, RoIMatching)
    found = heads.assign_targets_to_proposals(proposals, boxes, labels)
    for one, other in zip(expected, found, strict=True):
        assert len(one) == len(other)
        assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))
    if counts == COUNTS[0]:
        assert -1 in torch.cat(found[1])  # between the thresholds


class Everything(Matcher):
    def __call__(self, quality):
        return torch.zeros_like(quality[0], dtype=torch.int64)


def test_a_matcher_of_ones_own_is_asked():
    network, heads = rpn(), roi_heads()
    adopt(network, RPNMatching)
    adopt(heads, RoIMatching)
    network.proposal_matcher = heads.proposal_matcher = Everything(0.5, 0.5)
    boxes, anchors = drawn([3], 0), drawn([30], 1)
    labels, _ = network.assign_targets_to_anchors(anchors, [{"boxes": boxes[0]}])
    assert labels[0].sum() == 30
    _, labels = heads.assign_targets_to_proposals(anchors, boxes, [torch.tensor([5, 6, 7])])
    assert (labels[0] == 5).all()


def test_a_similarity_of_ones_own_is_asked():
    network = rpn()
    adopt(network, RPNMatching)
    network.box_similarity = lambda boxes, anchors: torch.ones(len(boxes), len(anchors))
    labels, _ = network.assign_targets_to_anchors(drawn([30], 1), [{"boxes": drawn([3], 0)[0]}])
    assert labels[0].sum() == 30


def test_retinanet_asks_a_matcher_of_ones_own():
    model = RetinaNet.__new__(RetinaNet)
    nn.Module.__init__(model)
    adopt(model, matching.RetinaNetMatching)
    model.proposal_matcher = Everything(0.5, 0.5)
    model.head = SimpleNamespace(compute_loss=lambda *given: given[3])
    (found,) = model.compute_loss([{"boxes": drawn([3], 0)[0]}], {}, drawn([30], 1))
    assert (found == 0).all()
