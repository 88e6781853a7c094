"""Detectors that are not just as torchvision's builders make them."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.ssd import SSD, SSDHead

from detcenter import (
    CenterLoss,
    RankHardLoss,
    attach,
    box_features,
    detach,
    detect_with_features,
)
from detcenter.models import set_l2_softmax, set_min_negatives, terms_of

from .conftest import CLASSES, Recorder, own, positives_by_loop


class MySSD(SSD):
    pass


class MyFasterRCNN(FasterRCNN):
    pass


class MyRetinaNet(RetinaNet):
    pass


class MyFCOS(FCOS):
    pass


class MyRoIHeads(RoIHeads):
    def forward(self, *args, **kwargs):
        result, losses = super().forward(*args, **kwargs)
        return result, {name: 2 * loss for name, loss in losses.items()}


OWN = {"ssd": MySSD, "fasterrcnn": MyFasterRCNN, "retinanet": MyRetinaNet, "fcos": MyFCOS}


def train_losses(model, images, targets):
    torch.manual_seed(7)
    return model(images, targets)


@pytest.mark.parametrize("family", OWN)
def test_a_subclass_is_attached_trained_and_detached_to_what_it_was(built, family, images, targets):
    plain = copy.deepcopy(built[family]).train()
    plain.__class__ = OWN[family]
    if family == "fasterrcnn":
        plain.roi_heads.__class__ = MyRoIHeads
    expected = train_losses(copy.deepcopy(plain), images, targets)
    attached = detach(copy.deepcopy(plain))  # torchvision's own generators of anchors
    kinds = [type(module) for module in attached.modules()]
    attach(attached)
    assert isinstance(attached, OWN[family])
    losses = train_losses(attached, images, targets)
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=1e-6)
    assert losses["loss_center"] > 0
    sum(losses.values()).backward()
    detach(attached)
    assert [type(module) for module in attached.modules()] == kinds
    assert attached.state_dict().keys() == plain.state_dict().keys()


class MyLosses(SSD):
    def compute_loss(self, targets, head_outputs, anchors, matched_idxs):
        losses = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        return {"both": sum(losses.values())}


def test_an_ssd_that_computes_its_losses_itself_keeps_them(small_model, images, targets):
    small_model.__class__ = MyLosses
    (expected,) = copy.deepcopy(small_model)(images, targets).values()
    losses = attach(small_model, weight=0.0, features="cell")(images, targets)
    assert losses.keys() == {"both", "loss_center"}
    torch.testing.assert_close(losses["both"], expected)
    assert terms_of(small_model).center.losses[0].centers.any()
    with pytest.raises(TypeError, match="MyLosses.*computes its losses itself"):
        set_min_negatives(small_model, 3)


# 6. Whatever torchvision's knobs and labels are


@pytest.mark.parametrize("labels", [[1, 3, 2], [0, 3, 0]])
def test_labels_of_background_and_a_ratio_set_later_are_as_in_torchvision(
    plain_model, images, targets, labels
):
    targets[0]["labels"] = torch.tensor(labels)
    attached = attach(copy.deepcopy(plain_model), weight=0.0, features=own(plain_model))
    for model in (plain_model, attached):
        model.neg_to_pos_ratio = 0.7  # which the SSD alone reads
    expected = train_losses(plain_model, images, targets)
    losses = train_losses(attached, images, targets)
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-5, atol=1e-6)
    moved = {
        label
        for loss in terms_of(attached).center.losses
        for label in loss.centers.any(1).nonzero().flatten().tolist()
    }
    seen = set(labels) | set(targets[1]["labels"].tolist())
    assert moved == seen - {0}


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_targets_of_an_ssd_have_labels_of_any_integer_type(small_model, images, targets, dtype):
    """The others of torchvision want int64."""
    attach(small_model)
    expected = copy.deepcopy(small_model)(images, targets)
    losses = small_model(images, [t | {"labels": t["labels"].to(dtype)} for t in targets])
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)


# 8. Heads of one's own


class HiddenLayer(nn.Module):
    """With a dropout in the layer of the scores, which has another input than the predictor."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(1024, 20), nn.ReLU())
        self.cls_score = nn.Sequential(nn.Dropout(0.5), nn.Linear(20, CLASSES))
        self.bbox_pred = nn.Linear(20, 4 * CLASSES)

    def forward(self, x):
        x = self.hidden(x.flatten(1))
        return self.cls_score(x), self.bbox_pred(x)


class Bilinear(nn.Module):
    """Whose sizes cannot be read off a linear layer."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Parameter(0.01 * torch.randn(CLASSES, 1024))
        self.boxes = nn.Parameter(torch.zeros(4 * CLASSES, 1024))

    def forward(self, x):
        return x @ self.scores.T, x @ self.boxes.T


@pytest.fixture
def fasterrcnn(built):
    return copy.deepcopy(built["fasterrcnn"]).train()


def test_the_feature_is_what_the_layer_of_the_scores_reads(fasterrcnn, images, targets):
    fasterrcnn.roi_heads.box_predictor = HiddenLayer()
    read = []
    linear = fasterrcnn.roi_heads.box_predictor.cls_score[1]
    hook = linear.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    recorder = Recorder()
    attach(fasterrcnn, weight=1.0)
    losses = train_losses(attach(fasterrcnn, recorder, name="x"), images, targets)
    hook.remove()
    (seen,) = read
    assert terms_of(fasterrcnn).center.losses[0].centers.shape == (CLASSES, 20)
    assert losses["loss_center"] > 0 and len(recorder.features) > 0
    rows = {tuple(row) for row in seen.tolist()}
    assert {tuple(row) for row in recorder.features.tolist()} <= rows
    boxes = [target["boxes"] for target in targets]
    features = box_features(fasterrcnn, images, boxes)
    assert [x.shape for x in features] == [(3, 20), (1, 20)]
    found = detect_with_features(fasterrcnn, images)
    assert all(x["features"].shape == (len(x["boxes"]), 20) for x in found)
    set_l2_softmax(fasterrcnn, 9.0)
    for got, before in zip(box_features(fasterrcnn, images, boxes), features, strict=True):
        assert torch.equal(got, before)  # of before the scaling, which is the classifier's


def test_sizes_that_cannot_be_read_are_given(fasterrcnn, images, targets):
    fasterrcnn.roi_heads.box_predictor = Bilinear()
    kinds = [type(module) for module in fasterrcnn.modules()]
    with pytest.raises(ValueError, match="how many classes.*FasterRCNN.*num_classes="):
        attach(fasterrcnn)
    with pytest.raises(ValueError, match="how wide.*FasterRCNN.*feature_dim="):
        attach(fasterrcnn, num_classes=CLASSES)
    with pytest.raises(TypeError, match="class logits cannot be told"):
        set_l2_softmax(fasterrcnn, 9.0)
    assert [type(module) for module in fasterrcnn.modules()] == kinds
    attach(fasterrcnn, feature_dim=1024, num_classes=CLASSES)
    attach(fasterrcnn, name="x", features="embedding", feature_dim=1024, num_classes=CLASSES)
    losses = train_losses(fasterrcnn, images, targets)
    assert losses["loss_center"] > 0 and losses["loss_x"] > 0
    boxes = [target["boxes"] for target in targets]
    assert [x.shape for x in box_features(fasterrcnn, images, boxes)] == [(3, 1024), (1, 1024)]


@pytest.mark.parametrize("family", OWN)
def test_sizes_at_odds_with_the_head_are_refused(built, family):
    model = copy.deepcopy(built[family])
    with pytest.raises(ValueError, match="feature_dim=.*5.* does not fit this .*head has"):
        attach(model, feature_dim=5)
    with pytest.raises(ValueError, match="num_classes=9 does not fit this .*head has 4"):
        attach(model, num_classes=9)
    width = 1024 if family == "fasterrcnn" else model.backbone.out_channels
    attach(model, feature_dim=width, num_classes=CLASSES)


def test_boxes_are_a_list_of_tensors(small_model, images, targets):
    for boxes in (targets, torch.zeros(2, 3, 4)):
        with pytest.raises(TypeError, match=r"a list of one tensor \[N, 4\] an image, xyxy"):
            box_features(small_model, images, boxes)


class Wrapped(nn.Module):
    """An SSD's head that does not show its layers."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, maps):
        return self.inner(maps)


def test_an_ssds_head_of_ones_own(small_model, images, targets):
    per_cell = small_model.anchor_generator.num_anchors_per_location()
    small_model.head = Wrapped(SSDHead([128, 128], per_cell, CLASSES))
    expected = positives_by_loop(copy.deepcopy(small_model), images, targets)
    with pytest.raises(ValueError, match="how many classes this SSD has"):
        attach(small_model)
    recorder = Recorder()
    sizes = {"feature_dim": 128, "num_classes": CLASSES}
    attach(small_model, recorder, features="cell", **sizes)
    attach(small_model, name="y", features="cell", feature_dim=[128, 128], num_classes=CLASSES)
    losses = small_model(images, targets)
    vectors = torch.stack([p.vector for level in expected for p in level])
    torch.testing.assert_close(recorder.features, vectors)
    assert losses["loss_y"] > 0
    detach(small_model)
    assert type(small_model.head) is Wrapped


@pytest.mark.parametrize("rows", [1, None])
def test_a_classifier_may_read_more_if_it_is_clear_which_are_the_boxes(
    fasterrcnn, images, targets, rows
):
    class Twice(FastRCNNPredictor):
        def forward(self, x):
            self.cls_score(x.flatten(1)[:rows])
            return super().forward(x)

    fasterrcnn.roi_heads.box_predictor = Twice(1024, CLASSES)
    attach(fasterrcnn)
    if rows == 1:
        assert fasterrcnn(images, targets)["loss_center"] > 0
    else:
        with pytest.raises(RuntimeError, match=r"read \d+ boxes once, but read \[\d+, \d+\]"):
            fasterrcnn(images, targets)


def test_a_model_whose_forward_was_exchanged_is_refused(small_model):
    small_model.forward = small_model.forward  # as accelerate's prepare does
    with pytest.raises(ValueError, match="forward of this model was exchanged.*attach before"):
        attach(small_model)
    del small_model.forward
    attach(small_model).forward = small_model.forward
    with pytest.raises(ValueError, match="take the wrapper off before detach"):
        detach(small_model)


# The call


def test_alone_it_takes_the_weights_of_the_study(plain_model, images, targets):
    losses = train_losses(attach(plain_model), images, targets)
    term = terms_of(plain_model).center
    of_boxes = isinstance(plain_model, FasterRCNN)
    assert term.weight == (3.0 if of_boxes else 0.3) and term.embedded is not of_boxes
    # at zero centers, on the unit sphere, the loss is 1/2
    assert losses["loss_center"].item() == pytest.approx(term.weight / 2, abs=1e-5)
    assert ("loss_embedding" in losses) is not of_boxes
    attach(plain_model, RankHardLoss(), name="rank")
    assert terms_of(plain_model).rank.weight == (1.0 if of_boxes else 0.3)


def test_a_center_loss_is_sized_by_the_model(plain_model):
    one = CenterLoss(alpha=0.2, normalize=False)
    attach(plain_model, one, features="embedding")
    assert terms_of(plain_model).center.losses[0] is one and one.centers.shape == (CLASSES, 64)
    many = CenterLoss(alpha=0.9)
    attach(plain_model, many, name="x", features=own(plain_model))
    losses = terms_of(plain_model).x.losses
    assert all(loss.alpha == 0.9 and loss.num_classes == CLASSES for loss in losses)
    assert len(losses) == 1 or many.num_classes is None  # copies, one a level


def test_a_refused_loss_keeps_no_sizes(small_model):
    loss = CenterLoss()
    with pytest.raises(ValueError, match="warmup_steps=-1"):
        attach(small_model, loss, warmup_steps=-1)
    assert loss.num_classes is None


def test_plain_weights_are_loaded_before(small_model):
    plain = copy.deepcopy(small_model).state_dict()
    attach(small_model)
    with pytest.raises(RuntimeError, match="load them first, then attach"):
        small_model.load_state_dict(plain)
    small_model.load_state_dict(plain, strict=False)
    small_model.load_state_dict(small_model.state_dict())
