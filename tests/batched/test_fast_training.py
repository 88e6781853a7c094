"""Training steps of whole models: the losses and gradients are torchvision's."""

import copy
import pickle
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign

from detcenter import attach, detach, fast
from detcenter.batched import roi_losses as heads
from detcenter.batched import sampling
from tests.tiny_detectors import built

CLASSES, SIZE = 4, 64
BOXES = torch.tensor([[4.0, 4, 28, 30], [34, 10, 60, 40], [10, 34, 26, 58]])


class Backbone(nn.Module):
    """Maps of strides 8 and 16."""

    out_channels = 32

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 32, 8, 8), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU())

    def forward(self, images):
        fine = self.fine(images)
        return OrderedDict(fine=fine, coarse=self.coarse(fine))


def dense(kind, sizes, ratios):
    anchors = AnchorGenerator(sizes, (ratios,) * 2)
    return kind(Backbone(), CLASSES, SIZE, SIZE, anchor_generator=anchors, score_thresh=0.0)


def rcnn(kind, **options):
    def pooling(side):
        return MultiScaleRoIAlign(["fine", "coarse"], side, 2, canonical_scale=32)

    heads = {
        MaskRCNN: {
            "mask_roi_pool": pooling(4),
            "mask_head": nn.Conv2d(32, 8, 3, padding=1),
            "mask_predictor": MaskRCNNPredictor(8, 8, CLASSES),
        },
        KeypointRCNN: {
            "keypoint_roi_pool": pooling(4),
            "keypoint_head": nn.Conv2d(32, 8, 3, padding=1),
            "keypoint_predictor": KeypointRCNNPredictor(8, 17),
        },
    }
    return kind(
        Backbone(),
        None,
        SIZE,
        SIZE,
        rpn_anchor_generator=AnchorGenerator(((16, 24), (32, 48)), ((0.5, 1.0, 2.0),) * 2),
        rpn_batch_size_per_image=32,
        box_batch_size_per_image=16,
        box_roi_pool=pooling(3),
        box_head=TwoMLPHead(32 * 3 * 3, 32),
        box_predictor=FastRCNNPredictor(32, CLASSES),
        box_score_thresh=0.0,
        **heads.get(kind, {}),
        **options,
    )


MODELS = {
    "retinanet": lambda: dense(RetinaNet, ((16, 24), (32, 48)), (0.5, 1.0, 2.0)),
    "fcos": lambda: dense(FCOS, ((8,), (16,)), (1.0,)),
    "fasterrcnn": lambda: rcnn(FasterRCNN),
    "maskrcnn": lambda: rcnn(MaskRCNN),
    "keypointrcnn": lambda: rcnn(KeypointRCNN),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().train()


def batch(model, counts=(3, 1, 2)):
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, SIZE, side, generator=generator) for side in (64, 48, 56)]
    targets = []
    for count in counts:
        boxes = BOXES[:count]
        target = {"boxes": boxes, "labels": 1 + torch.arange(count) % (CLASSES - 1)}
        if isinstance(model, MaskRCNN):
            target["masks"] = torch.ones(count, SIZE, SIZE, dtype=torch.uint8)
        if isinstance(model, KeypointRCNN):
            centers = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
            target["keypoints"] = torch.cat(
                [centers.expand(-1, 17, -1), torch.ones(count, 17, 1)], 2
            )
            target["labels"] = target["labels"].clamp(max=1)
        targets.append(target)
    return images, targets


def step(model, images, targets):
    torch.manual_seed(2)
    model.zero_grad()
    losses = model(images, targets)
    sum(losses.values()).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_steps_equal(one, other, given):
    (losses, gradients), (expected, of_expected) = step(one, *given), step(other, *given)
    assert losses.keys() == expected.keys() and gradients.keys() == of_expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=1e-6)
    scale = max(float(gradient.abs().max()) for gradient in of_expected.values())
    for name, gradient in of_expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("counts", [(3, 1, 2), (2, 0, 1), (0, 0, 0)])
def test_a_step_is_torchvisions(model, counts):
    if isinstance(model, MaskRCNN | KeypointRCNN) and 0 in counts:
        counts = (1, 1, 1)  # torchvision wants objects there
    given = batch(model, counts)
    assert_steps_equal(fast(copy.deepcopy(model)), model, given)


def test_an_attached_step_is_the_same_in_both_orders(model):
    given = batch(model)
    attached = attach(copy.deepcopy(model))
    first = fast(copy.deepcopy(attached))
    then = fast(copy.deepcopy(model))
    attach(then).box_terms.load_state_dict(attached.box_terms.state_dict())
    losses, _ = step(copy.deepcopy(attached), *given)
    assert losses["loss_center"] > 0
    for one in (first, then):
        # As the step moves the centers.
        assert_steps_equal(copy.deepcopy(one), copy.deepcopy(attached), given)
    assert_steps_equal(detach(first), model, given)
    assert_steps_equal(detach(fast(then, False)), model, given)


def test_it_is_taken_back_copied_and_pickled(model):
    given = batch(model)
    kinds = [type(x) for x in model.modules()]
    made = fast(copy.deepcopy(model))
    assert [type(x) for x in made.modules()] != kinds
    assert_steps_equal(pickle.loads(pickle.dumps(made)), model, given)
    assert [type(x) for x in fast(made, False).modules()] == kinds


class InOrder:
    """A sampler without chance."""

    def __call__(self, labels):
        return (
            [(x >= 1) & ((x >= 1).cumsum(0) <= 4) for x in labels],
            [(x == 0) & ((x == 0).cumsum(0) <= 8) for x in labels],
        )


class Elsewhere(torch.Tensor):
    """Says that it lies on a device, as do all tensors that are made of it."""

    is_cpu = False


def elsewhere(x):
    return x.as_subclass(Elsewhere)


@pytest.mark.parametrize("name", ["fasterrcnn", "maskrcnn", "keypointrcnn"])
def test_what_is_done_on_a_device_only_gives_the_same(name, monkeypatch):
    torch.manual_seed(0)
    model = MODELS[name]().train()
    model.rpn.fg_bg_sampler = model.roi_heads.fg_bg_sampler = InOrder()
    images, targets = batch(model)
    made = fast(copy.deepcopy(model))
    step(made, images, targets)  # in which the pooling finds its scales
    seen, boxes_only = [], name == "fasterrcnn"
    for module, part in ((sampling, "rpn_losses"), (sampling, "places"), (heads, "roi_losses")):
        function = getattr(module, part)
        noted = lambda *given, part=part, f=function: [seen.append(part), f(*given)][1]  # noqa: E731
        monkeypatch.setattr(module, part, noted)
    there = (
        [elsewhere(x) for x in images],
        [{key: elsewhere(x) for key, x in target.items()} for target in targets],
    )
    expected, _ = step(model, images, targets)
    losses, _ = step(made, *there)
    assert sorted(seen) == ["places", "roi_losses", "rpn_losses"][:: 1 if boxes_only else 2]
    for key, loss in expected.items():
        torch.testing.assert_close(losses[key].item(), loss.item(), rtol=1e-5, atol=1e-6)


def test_a_sampler_a_matcher_and_losses_of_ones_own_stay():
    model = MODELS["fasterrcnn"]()
    sampler = InOrder()

    class Own(RegionProposalNetwork):
        def compute_loss(self, *given):
            return torch.tensor(3.0), torch.tensor(4.0)

    model.rpn.__class__ = Own
    model.roi_heads.fg_bg_sampler = sampler
    fast(model).train()
    assert type(sampler) is InOrder
    losses, _ = step(model, *batch(model))
    assert losses["loss_objectness"] == 3 and losses["loss_rpn_box_reg"] == 4


def test_a_sampler_that_calls_itself_is_not_replaced():
    class Own(BalancedPositiveNegativeSampler):
        def __call__(self, labels):
            return InOrder()(labels)

    model = MODELS["fasterrcnn"]()
    model.rpn.fg_bg_sampler = Own(8, 0.5)
    fast(model)
    assert type(model.rpn.fg_bg_sampler) is Own
    assert type(model.roi_heads.fg_bg_sampler) is not BalancedPositiveNegativeSampler


def test_a_loss_of_the_heads_that_was_exchanged_in_torchvision_is_called(monkeypatch):
    model = fast(MODELS["fasterrcnn"]()).train()
    images, targets = batch(model)
    own = torch.tensor(5.0), torch.tensor(6.0)
    monkeypatch.setattr("torchvision.models.detection.roi_heads.fastrcnn_loss", lambda *_: own)
    losses = model([elsewhere(x) for x in images], targets)
    assert losses["loss_classifier"] == 5 and losses["loss_box_reg"] == 6


def test_the_losses_of_the_heads_are_torchvisions():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (30,), generator=generator)
    logits, codes = (torch.randn(30, n, generator=generator).requires_grad_() for n in (4, 16))
    wanted = torch.randn(30, 4, generator=generator).where(labels.unsqueeze(1) > 0, -torch.inf)
    expected = fastrcnn_loss(logits, codes, [labels], [wanted])
    found = heads.roi_losses(logits, codes, labels, wanted)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(a + 2 * b, (logits, codes)) for a, b in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_targets_of_another_dtype_are_refused_as_by_torchvision():
    model = fast(MODELS["fasterrcnn"]()).train()
    images, targets = batch(model)
    targets[0]["labels"] = targets[0]["labels"].int()
    with pytest.raises(TypeError, match="target labels must of int64 type"):
        model([elsewhere(x) for x in images], targets)


@pytest.mark.parametrize("change", [fast, attach])
@pytest.mark.parametrize("number", [1, 3])
def test_boxes_and_labels_of_different_numbers_are_refused(change, number):
    """They would shift the labels of the images behind, without a word."""
    for name in ("ssd", "retinanet", "fcos"):
        model = change(built(name))
        images, targets = batch(model)
        targets[0] = {"boxes": BOXES[:2], "labels": torch.ones(number, dtype=torch.int64)}
        with pytest.raises(ValueError, match=f"2 boxes and {number} labels in the target at inde"):
            model(images, targets)
