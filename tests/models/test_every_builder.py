"""The promises of an attached model, for every builder of torchvision.models.detection.

The small models of test_promises show each promise by itself; here the same is seen to hold for
the detectors that people use, on small images, with both kinds of features at once.
"""

import copy
import pickle
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torchvision.models import detection as torchvision_detection
from torchvision.models import get_model, list_models, resnet

from detcenter import Embedding, attach, box_features, detach, detect_with_features
from detcenter.models import family_of, terms_of

from .conftest import CLASSES, FEW_BOXES, narrow_vgg, own, with_statistics

SIZE = {"min_size": 64, "max_size": 96}
FEW_DETECTIONS = {"detections_per_img": 6, "score_thresh": 0.0}
FEW_PROPOSALS = FEW_BOXES | {"box_batch_size_per_image": 8, "box_detections_per_img": 3}
BUILDERS = sorted(list_models(module=torchvision_detection))


def shallow(block, layers, *rest, build=resnet._resnet, **options):
    """One block a stage."""
    return build(block, [1] * len(layers), *rest, **options)


def build(name):
    options = FEW_DETECTIONS if "rcnn" not in name else FEW_PROPOSALS
    if "ssd" not in name:
        options = options | SIZE
    model = get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, **options)
    # Statistics of batches this small blow up rounding, so those of the start are kept.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    if name == "ssd300_vgg16":  # has large features, and scores that are 1.0 exactly
        for layer in model.head.classification_head.module_list:
            nn.init.normal_(layer.weight, std=1e-3)
    return model.train()


@pytest.fixture(scope="module", params=BUILDERS)
def plain(request):
    torch.manual_seed(0)
    with narrow_vgg(), patch.object(resnet, "_resnet", shallow):
        return build(request.param)


@pytest.fixture
def attached(plain):
    """One term reads the detector's own vectors, another an embedding."""
    model = attach(copy.deepcopy(plain), weight=0.0, features=own(plain))
    return attach(model, weight=0.0, features=Embedding(weight=0.0), name="embedded")


def train_losses(model, images, targets):
    torch.manual_seed(7)
    return model(images, targets)


def test_there_are_twelve():
    assert len(BUILDERS) == 12


def test_with_weight_zero_it_trains_as_torchvisions(plain, attached, images, targets):
    twin = copy.deepcopy(plain)
    expected, losses = (train_losses(model, images, targets) for model in (twin, attached))
    added = {"loss_center", "loss_embedded", "loss_embedding"}
    assert losses.keys() == expected.keys() | added
    assert all(losses[name] == 0 for name in added)
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=1e-6)
    sum(expected.values()).backward()
    sum(losses.values()).backward()
    got = dict(attached.named_parameters())
    trained = {name: p for name, p in twin.named_parameters() if p.grad is not None}
    assert len(trained) > 20
    # A bias before batch norm has a gradient of zero, of which rounding is all that is seen.
    rounding = 1e-5 * max(p.grad.abs().max().item() for p in trained.values())
    for name, p in trained.items():
        torch.testing.assert_close(got[name].grad, p.grad, rtol=1e-3, atol=rounding)
    for name, moved in twin.named_buffers():  # batch norm saw the same
        torch.testing.assert_close(dict(attached.named_buffers())[name], moved)


def test_in_eval_mode_nothing_differs(plain, attached, images):
    twin = copy.deepcopy(plain)
    for model in (twin, attached):  # of equal scores any may come first, so that none is equal
        torch.manual_seed(0)
        with_statistics(model)
    with torch.inference_mode():
        expected, got = twin.eval()(images), attached.eval()(images)
    assert sum(len(found["boxes"]) for found in expected) > 0
    for one, other in zip(got, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_keys_are_only_added_and_copies_and_pickles_are_whole(plain, attached):
    keys = plain.state_dict().keys()
    added = attached.state_dict().keys() - keys
    assert keys < attached.state_dict().keys()
    assert all(".box_terms." in f".{name}" for name in added)
    for twin in (copy.deepcopy(attached), pickle.loads(pickle.dumps(attached))):
        assert twin.state_dict().keys() == attached.state_dict().keys()
        assert type(detach(twin)) is type(plain)
        assert twin.state_dict().keys() == keys
        assert [type(m) for m in twin.modules()] == [type(m) for m in plain.modules()]


def test_centers_move_and_stay_where_there_is_nothing(attached, images, targets, no_targets):
    tables = {
        term: [x for name, x in terms_of(attached)[term].named_buffers() if "centers" in name]
        for term in ("center", "embedded")
    }
    losses = train_losses(attached, images, no_targets)
    for term, of_term in tables.items():
        assert losses[f"loss_{term}"] == 0 and losses[f"loss_{term}"].requires_grad
        assert of_term and not any(table.any() for table in of_term)
    train_losses(attached, images, targets)
    assert all(any(table.any() for table in of_term) for of_term in tables.values())


def test_every_box_has_a_feature(plain, attached, images, targets):
    boxes = [target["boxes"] for target in targets]
    vectors = box_features(plain, images, boxes)
    widths = family_of(plain).feature_widths(plain)
    width = widths[0] if len(set(widths)) == 1 else sum(widths)
    assert [x.shape for x in vectors] == [(3, width), (1, width)]
    features = box_features(attached, images, boxes)
    assert all(torch.equal(x, y) for x, y in zip(features, vectors, strict=True))
    embedded = box_features(attached, images, boxes, name="embedded")
    assert [x.shape for x in embedded] == [(3, 64), (1, 64)]
    for name in ("center", "embedded"):
        found = detect_with_features(attached, images, name=name)
        assert all(len(x["features"]) == len(x["boxes"]) for x in found)
    assert attached.training and attached.backbone.training
