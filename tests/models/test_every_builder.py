"""The promises of an attached model, for every builder of torchvision.models.detection.

The small models of test_promises show each promise by itself; here the same is seen to hold for
the detectors that people use, on small images.
"""

import copy
import pickle

import pytest
import torch
from torch import nn
from torchvision.models import detection as torchvision_detection
from torchvision.models import get_model, list_models

from detcenter import Embedding, attach, box_features, detach, detect_with_features
from detcenter.models import family_of, terms_of

from .conftest import CLASSES, FEW_BOXES, own, with_statistics

SIZE = {"min_size": 64, "max_size": 96}
FEW_DETECTIONS = {"detections_per_img": 6, "score_thresh": 0.0}
BUILDERS = sorted(list_models(module=torchvision_detection))


def build(name):
    options = FEW_DETECTIONS if "rcnn" not in name else FEW_BOXES
    if "ssd" not in name:
        options = options | SIZE
    model = get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, **options)
    # Statistics of batches this small blow up rounding, so those of the start are kept.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    return model.train()


@pytest.fixture(scope="module", params=BUILDERS)
def plain(request):
    torch.manual_seed(0)
    return build(request.param)


@pytest.fixture(params=["own", "embedding"])
def attached(request, plain):
    features = own(plain) if request.param == "own" else Embedding(weight=0.0)
    return attach(copy.deepcopy(plain), weight=0.0, features=features)


def train_losses(model, images, targets):
    torch.manual_seed(7)
    return model(images, targets)


def test_there_are_twelve():
    assert len(BUILDERS) == 12


def test_with_weight_zero_it_trains_as_torchvisions(plain, attached, images, targets):
    twin = copy.deepcopy(plain)
    expected, losses = (train_losses(model, images, targets) for model in (twin, attached))
    assert losses.keys() > expected.keys()
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
    tables = [x for name, x in terms_of(attached).named_buffers() if name.endswith("centers")]
    losses = train_losses(attached, images, no_targets)
    assert losses["loss_center"] == 0 and losses["loss_center"].requires_grad
    assert not any(table.any() for table in tables)
    train_losses(attached, images, targets)
    assert any(table.any() for table in tables)


def test_every_box_has_a_feature(plain, attached, images, targets):
    boxes = [target["boxes"] for target in targets]
    vectors = box_features(plain, images, boxes)
    widths = family_of(plain).feature_widths(plain)
    width = widths[0] if len(set(widths)) == 1 else sum(widths)
    assert [x.shape for x in vectors] == [(3, width), (1, width)]
    features = box_features(attached, images, boxes)
    if "embedding" in terms_of(attached):
        assert [x.shape for x in features] == [(3, 64), (1, 64)]
    else:
        assert all(torch.equal(x, y) for x, y in zip(features, vectors, strict=True))
    found = detect_with_features(attached, images)
    assert all(len(x["features"]) == len(x["boxes"]) for x in found)
    assert attached.training and attached.backbone.training
