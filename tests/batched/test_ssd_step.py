"""A training step of SSD under `fast`, against torchvision's own."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from detcenter import attach, detach, fast
from detcenter.adoption import own_class
from detcenter.batched import ssd
from detcenter.losses import multibox
from detcenter.models import set_min_negatives

CLASSES = 5


@pytest.fixture(autouse=True, params=["cpu", "device"])
def way(request, monkeypatch):
    """As on the CPU, where looking at numbers is free, and as on a device, where it is not."""
    if request.param == "device":
        for module in (ssd, multibox):
            monkeypatch.setattr(module, "looking_is_free", lambda values: False)


class Backbone(nn.Module):
    out_channels = [8, 8]

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, 8, 1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        fine = self.fine(x).tanh()
        return {"0": fine, "1": self.coarse(fine).tanh()}


def made(kind=SSD, **options):
    torch.manual_seed(0)
    anchors = DefaultBoxGenerator([[2], [2]], scales=[0.2, 0.5, 0.9])
    return kind(Backbone(), anchors, (64, 64), CLASSES, **options).train()


def batch(counts, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for count in counts:
        images.append(torch.rand(3, 60, 80, generator=generator))
        low = 40 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat([low, low + 2 + 18 * torch.rand(count, 2, generator=generator)], 1)
        labels = torch.randint(1, CLASSES, (count,), generator=generator)
        targets.append({"boxes": boxes, "labels": labels})
    return images, targets


def trained(model, images, targets):
    """Losses and gradients of a step."""
    model.zero_grad()
    losses = model.train()(images, targets)
    sum(losses.values()).backward()
    return losses, {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_same(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("counts", [[3, 0, 8], [0, 0], [1], [60, 2]])
def test_losses_and_gradients_are_torchvisions(counts):
    model, data = made(), batch(counts)
    plain = copy.deepcopy(model)
    assert_same(trained(fast(model), *data), trained(plain, *data))
    before = [{key: x.clone() for key, x in target.items()} for target in data[1]]
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(before, data[1], strict=True))


@pytest.mark.parametrize("ratio", [0, 0.4, 3, 1000])
def test_of_equal_losses_the_same_are_mined(ratio):
    model, data = made(), batch([2, 3])
    for p in model.head.classification_head.parameters():
        nn.init.zeros_(p)  # so that all boxes have one loss
    model.neg_to_pos_ratio = ratio
    plain = copy.deepcopy(model)
    assert_same(trained(fast(model), *data), trained(plain, *data))


def test_losses_that_are_no_numbers_stay_so():
    model, data = made(), batch([2, 3])
    with torch.no_grad():
        next(model.head.classification_head.parameters()).fill_(torch.nan)
    assert fast(model)(*data)["classification"].isnan()


def broken(boxes):
    images, targets = batch([2, 3])
    targets[1]["boxes"] = boxes
    return images, targets


@pytest.mark.parametrize(
    "data",
    [
        broken(torch.tensor([[4.0, 4.0, 9.0, 9.0], [30.0, 8.0, 30.0, 12.0], [9.0, 9.0, 3.0, 3.0]])),
        broken(torch.tensor([[torch.nan, 4.0, 9.0, 9.0], [3.0, 8.0, 1.0, 12.0]])),
        broken(torch.ones(4)),
        broken(torch.ones(2, 5)),
        broken([[4.0, 4.0, 9.0, 9.0]]),
        (batch([1])[0], None),
    ],
)
def test_wrong_targets_fail_with_torchvisions_words(data):
    model = made()
    with pytest.raises(AssertionError) as expected:
        model(*data)
    with pytest.raises(AssertionError) as got:
        fast(model)(*data)
    assert str(got.value) == str(expected.value)


def test_in_eval_mode_targets_are_checked_and_detections_are_torchvisions():
    model, (images, targets) = made(score_thresh=0.0).eval(), batch([2, 1])
    with torch.no_grad():
        expected = model(images, targets)
        got = fast(model)(images, targets)
        targets[1]["boxes"][0, 2] = 0.0
        with pytest.raises(AssertionError, match="Found invalid box .* at index 1"):
            model(images, targets)
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one["boxes"], other["boxes"])
        assert torch.equal(one["labels"], other["labels"])


class WithOwnLosses(SSD):
    def compute_loss(self, targets, head_outputs, anchors, matched_idxs):
        self.given = targets, head_outputs, anchors, matched_idxs
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        return losses | {"own": head_outputs["cls_logits"].square().mean()}


def test_losses_of_ones_own_get_what_torchvision_gives_them():
    model, data = made(WithOwnLosses), batch([3, 0, 8])
    plain = copy.deepcopy(model)
    expected, got = trained(plain, *data), trained(fast(model), *data)
    assert "own" in got[0]
    assert_same(got, expected)
    for one, other in zip(model.given, plain.given, strict=True):
        assert type(one) is type(other)
        torch.testing.assert_close(one, other, rtol=0, atol=0)


class WithOwnForward(SSD):
    def forward(self, images, targets=None):
        losses = super().forward(images, targets)
        return {name: 2 * loss for name, loss in losses.items()}


def test_a_forward_of_ones_own_is_kept():
    model, data = made(WithOwnForward), batch([3, 8])
    plain = copy.deepcopy(model)
    assert_same(trained(fast(model), *data), trained(plain, *data))


def test_a_matcher_of_ones_own_is_asked():
    model, data = made(), batch([3, 0, 8])
    model.proposal_matcher = Matcher(0.4, 0.2, allow_low_quality_matches=True)
    plain = copy.deepcopy(model)
    assert_same(trained(fast(model), *data), trained(plain, *data))


@pytest.mark.parametrize("first", ["attach", "fast"])
@pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_attached_and_fast_in_either_order(first, through):
    model, data = made(), batch([3, 0, 8])
    attached = attach(copy.deepcopy(model), weight=0.3)
    expected = trained(copy.deepcopy(attached), *data)
    if first == "attach":
        both = through(fast(attached))
    else:
        both = through(attach(fast(copy.deepcopy(model)), weight=0.3))
        both.load_state_dict(attached.state_dict())
    assert_same(trained(both, *data), expected)
    plain_losses, _ = trained(copy.deepcopy(model), *data)
    got, _ = trained(fast(detach(both)), *data)
    assert_same(got, plain_losses)
    assert type(fast(both, False)) is SSD
    assert {type(m) for m in both.modules()} == {type(m) for m in model.modules()}


def test_a_floor_on_negatives_is_kept():
    model, data = made(), batch([0, 0])
    assert trained(fast(model), *data)[0]["classification"] == 0
    assert trained(set_min_negatives(model, 6), *data)[0]["classification"] > 0
    assert own_class(model) is SSD
