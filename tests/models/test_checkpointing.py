"""Stages that are computed twice change nothing but the memory."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from detcenter import attach
from detcenter.models import build_model, set_gradient_checkpointing
from detcenter.models.checkpointing import Recomputed

from .conftest import CLASSES, target

BOXES = torch.tensor([[8.0, 6.0, 60.0, 70.0], [70.0, 20.0, 110.0, 60.0]])


@pytest.fixture(scope="module")
def plain():
    """With live batch norm, whose statistics a second pass would move a second time."""
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES, min_size=96, max_size=128
    )
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.backbone.modules())
    return attach(model, weight=1.0)


def step(model):
    """Losses, gradients and buffers of a step, and the bytes that the backbone kept for it."""
    torch.manual_seed(1)
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    images = list(torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(2)))
    with saved_tensors_hooks(keep, lambda x: x):
        losses = model.train()(images, [target(BOXES, [1, 3]), target(BOXES[:1], [2])])
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, dict(model.named_buffers()), sum(kept.values())


def test_a_step_is_the_plain_one_with_less_memory(plain):
    model = set_gradient_checkpointing(copy.deepcopy(plain))
    assert model.state_dict().keys() == plain.state_dict().keys()
    *expected, much = step(copy.deepcopy(plain))
    *found, little = step(model)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, msg=name)
    assert found[2]["box_terms.center.losses.0.centers"].abs().sum() > 0
    assert little < 0.6 * much


def test_copies_and_pickles_have_stages_of_their_own(plain):
    model = set_gradient_checkpointing(copy.deepcopy(plain))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(twin.backbone.body.layer1, Recomputed)
        with torch.no_grad():
            twin.backbone.body.layer1[0].conv1.weight.zero_()
    assert model.backbone.body.layer1[0].conv1.weight.abs().sum() > 0


def test_a_pyramid_over_a_classifier_is_refused():
    model = build_model(
        "ssd", CLASSES, backbone="resnet18", image_size=64, strides=[8], anchor_scales=[[0.3]]
    )
    with pytest.raises(ValueError, match="torchvision's own detectors"):
        set_gradient_checkpointing(model)
