"""What people do to detectors that they attach to: it works, or one line says what is wrong."""

import copy

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.ssd import SSD

from detcenter import CenterLoss, attach, detach, held_centers, set_l2_softmax
from detcenter.models import set_min_negatives, terms_of

from .conftest import CLASSES, Recorder, own


@pytest.fixture
def fasterrcnn(built):
    return copy.deepcopy(built["fasterrcnn"]).train()


@pytest.fixture
def retinanet(built):
    return copy.deepcopy(built["retinanet"]).train()


def train_losses(model, images, targets):
    torch.manual_seed(7)
    return model(images, targets)


# Matched past the methods that are listened to


def test_methods_that_were_exchanged_on_the_instance_are_named(
    small_model, fasterrcnn, images, targets
):
    small_model.compute_loss = small_model.compute_loss
    fasterrcnn.roi_heads.select_training_samples = fasterrcnn.roi_heads.select_training_samples
    for model in (small_model, fasterrcnn):
        with pytest.raises(RuntimeError, match="matched boxes past the methods"):
            attach(model)(images, targets)


class OwnLosses(RetinaNet):
    def compute_loss(self, targets, head_outputs, anchors):
        return {"own": head_outputs["cls_logits"].sum()}


def test_a_model_that_matches_itself_is_named(retinanet, images, targets):
    retinanet.__class__ = OwnLosses
    with pytest.raises(RuntimeError, match="this OwnLosses matched boxes past"):
        attach(retinanet)(images, targets)


class Recursive(SSD):
    def forward(self, images, targets=None, again=True):
        return self(images, targets, False) if again else super().forward(images, targets)


def test_a_forward_that_calls_the_model_adds_the_terms_once(small_model, images, targets):
    small_model.__class__ = Recursive
    attach(small_model)
    assert small_model(images, targets)["loss_center"] > 0
    assert terms_of(small_model).center.step == 1


class Consistent(SSD):
    """Reads the flipped images once more, after the losses or before them."""

    before = False

    def forward(self, images, targets=None):
        flipped = torch.stack([F.interpolate(x[None].flip(-1), (96, 96))[0] for x in images])
        if self.before:
            self.head(list(self.backbone(flipped).values()))
        losses = super().forward(images, targets)
        self.head(list(self.backbone(flipped).values()))
        return losses


@pytest.mark.parametrize("before", [False, True])
def test_features_are_of_the_outputs_that_were_matched(small_model, images, targets, before):
    expected, recorder = Recorder(), Recorder()
    attach(copy.deepcopy(small_model), expected, features="cell")(images, targets)
    small_model.__class__ = Consistent
    small_model.before = before
    attach(small_model, recorder, features="cell")(images, targets)
    torch.testing.assert_close(recorder.features, expected.features)


# Names and signatures of one's own


class OwnMultibox(SSD):
    def compute_loss(self, targets, head_outputs, anchors, matched_idxs, scale=1.0):
        return {"own": scale * self.multibox(head_outputs["cls_logits"])}


def test_a_module_called_multibox_stays(small_model, images, targets):
    small_model.__class__, small_model.multibox = OwnMultibox, nn.Sequential(nn.Flatten(), Sum())
    plain = copy.deepcopy(small_model)
    attach(small_model, features="cell")
    assert small_model(images, targets).keys() == {"own", "loss_center"}
    detach(small_model)
    assert type(small_model.multibox) is nn.Sequential
    torch.testing.assert_close(small_model(images, targets), plain(images, targets))


class Sum(nn.Module):
    def forward(self, x):
        return x.square().mean()


@pytest.mark.parametrize("name", ["box_terms", "multibox"])
def test_names_that_are_taken_are_refused_and_nothing_is_left(small_model, name):
    setattr(small_model, name, nn.Identity())
    with pytest.raises(ValueError, match=f"an attribute {name} of its own"):
        attach(small_model)
    assert type(small_model) is SSD and type(getattr(small_model, name)) is nn.Identity


class OwnCenter(FasterRCNN):
    def forward(self, images, targets=None):
        return super().forward(images, targets) | {"loss_center": torch.tensor(100.0)}


def test_a_loss_of_the_models_own_is_not_replaced(fasterrcnn, images, targets):
    fasterrcnn.__class__ = OwnCenter
    with pytest.raises(ValueError, match="OwnCenter has losses loss_center of its own"):
        attach(fasterrcnn)(images, targets)


class Keyword(FastRCNNPredictor):
    def forward(self, x):
        x = x.flatten(1)
        return self.cls_score(input=x), self.bbox_pred(x)


def test_a_layer_that_is_called_by_keyword(fasterrcnn, images, targets):
    fasterrcnn.roi_heads.box_predictor = Keyword(1024, CLASSES)
    assert train_losses(attach(fasterrcnn), images, targets)["loss_center"] > 0


class OwnLoading(SSD):
    def load_state_dict(self, state_dict, strict=True):
        return super().load_state_dict(state_dict, strict)


def test_loading_of_ones_own(small_model):
    small_model.__class__ = OwnLoading
    attach(small_model).load_state_dict(small_model.state_dict())
    small_model.load_state_dict({}, strict=False)


def test_a_second_convolution_in_a_class_branch_is_not_its_classifier(retinanet):
    branch = retinanet.head.classification_head
    branch.quality = nn.Conv2d(32, 1, 3)
    set_l2_softmax(attach(retinanet, features="cell"), 9.0)
    assert hasattr(branch.cls_logits, "l2_softmax") and not hasattr(branch.quality, "l2_softmax")


def test_a_class_branch_without_convolutions_wants_sizes(retinanet):
    retinanet.head.classification_head = nn.Linear(32, 4)
    with pytest.raises(ValueError, match="give num_classes="):
        attach(retinanet)
    attach(retinanet, feature_dim=32, num_classes=CLASSES, features="cell")


def test_a_floor_that_is_refused_changes_nothing(small_model, images, targets):
    with pytest.raises(ValueError, match="min_negatives"):
        set_min_negatives(small_model, -1)
    assert type(small_model) is SSD
    small_model(images, targets)


# Wrapped parts


def test_parts_that_are_compiled_or_checkpointed(small_model, retinanet, images, targets):
    small_model.head = torch.compile(small_model.head, backend="eager")
    retinanet.head.classification_head = checkpoint_wrapper(retinanet.head.classification_head)
    plain = copy.deepcopy(retinanet)
    plain.head = checkpoint_wrapper(plain.head)
    for model in (small_model, plain):
        expected = copy.deepcopy(model)(images, targets)
        sizes = {"feature_dim": model.backbone.out_channels, "num_classes": CLASSES}
        losses = attach(model, weight=0.0, features="cell", **sizes)(images, targets)
        for name, loss in expected.items():
            torch.testing.assert_close(losses[name], loss)
        assert any(loss.centers.any() for loss in terms_of(model).center.losses)


def test_a_head_whose_forward_was_exchanged_is_named(small_model, images, targets):
    small_model.head.forward = small_model.head.forward
    with pytest.raises(RuntimeError, match="SSDHead was wrapped, or its forward exchanged"):
        attach(small_model)(images, targets)


class Student(FasterRCNN):
    def forward(self, images, targets=None):
        losses = super().forward(images, targets)
        self.teacher[0](images, targets)
        return losses


def test_models_that_share_a_part_may_call_each_other(fasterrcnn, images, targets):
    teacher = attach(copy.deepcopy(fasterrcnn))
    fasterrcnn.__class__, fasterrcnn.teacher = Student, [teacher]
    fasterrcnn.roi_heads.box_predictor = teacher.roi_heads.box_predictor
    assert train_losses(attach(fasterrcnn), images, targets)["loss_center"] > 0
    assert type(fasterrcnn.roi_heads.box_predictor.cls_score) is nn.Linear


def test_a_copy_made_in_a_hook_is_whole_and_listens_to_nothing(plain_model, images, targets):
    copies = []

    def keep(*_):
        copies.append(copy.deepcopy(plain_model))

    attach(plain_model, features=own(plain_model))
    hook = plain_model.backbone.register_forward_hook(keep)
    train_losses(plain_model, images, targets)
    hook.remove()
    (twin,) = copies
    for one, other in zip(twin.modules(), plain_model.modules(), strict=True):
        assert type(one).__name__ == type(other).__name__
        assert "_box_notes" not in vars(one)
    twin.backbone._forward_hooks.clear()
    assert train_losses(twin, images, targets)["loss_center"] > 0


# Weight 0, and steps that fail


class Distances(nn.Module):
    """Between boxes of a class, as people write it: the gradient of sqrt at 0 is not finite."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x, y):
        squares = (x[:, None] - x[None]).square().sum(2)
        return self.scale * (squares.sqrt() * (y[:, None] == y[None])).mean()


@pytest.mark.parametrize("ramp", [{"weight": 0.0}, {"weight": 1.0, "start_step": 5}])
def test_at_weight_0_no_gradient_of_the_loss_gets_through(plain_model, images, targets, ramp):
    twin = copy.deepcopy(plain_model)
    attach(plain_model, [Distances()] * 2 if own(twin) == "cell" else Distances(),
           features=own(twin), **ramp)  # fmt: skip
    losses = train_losses(plain_model, images, targets)
    assert losses["loss_center"] == 0 and losses["loss_center"].requires_grad
    sum(losses.values()).backward()
    sum(train_losses(twin, images, targets).values()).backward()
    got = dict(plain_model.named_parameters())
    for name, p in twin.named_parameters():
        if p.grad is not None:
            assert got[name].grad.isfinite().all(), name


def test_a_last_pass_that_fails_drops_the_passes_before_it():
    loss, twin = CenterLoss(3, 2), CenterLoss(3, 2)
    with held_centers(loss):
        loss(-torch.ones(2, 2), torch.tensor([1, 2]))
    with pytest.raises(ValueError), held_centers(loss, False):
        loss(torch.ones(2, 3), torch.tensor([1, 2]))
    for one in (loss, twin):
        one(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    assert torch.equal(loss.centers, twin.centers)


def test_a_copy_made_between_passes_is_held_by_nobody(small_model, images, targets):
    attach(small_model)
    with held_centers(small_model):
        small_model(images, targets)
        twin = copy.deepcopy(small_model)
    twin(images, targets)
    assert terms_of(twin).center.step == 1 and terms_of(twin).center.losses[0].centers.any()


def test_finite_features_whose_sum_is_not_move_nothing():
    loss = CenterLoss(3, 2, normalize=False)
    loss(torch.full((2, 2), 3e38), torch.tensor([1, 1]))
    loss(torch.ones(2, 2), torch.tensor([1, 2]))
    assert loss.centers.isfinite().all() and loss.centers[1:].any(1).all()


# Dtypes


def test_centers_are_float32_whatever_the_default():
    torch.set_default_dtype(torch.bfloat16)
    try:
        loss = CenterLoss(3, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {buffer.dtype for buffer in loss.buffers()} == {torch.float32}


class Widened(nn.Module):
    """A backbone in bfloat16 that gives its maps in float32."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner.to(torch.bfloat16)
        self.out_channels = inner.out_channels

    def forward(self, x):
        return {k: v.float() for k, v in self.inner(x.to(torch.bfloat16)).items()}


def test_a_model_of_two_dtypes(small_model, images, targets):
    small_model.backbone = Widened(small_model.backbone)
    losses = attach(small_model)(images, targets)
    assert losses["loss_center"] > 0 and losses["loss_embedding"] > 0


def test_losses_of_a_model_in_bfloat16_are_of_torchvisions_dtype(small_model, images, targets):
    small_model.to(torch.bfloat16)
    half = [image.to(torch.bfloat16) for image in images]
    expected = copy.deepcopy(small_model)(half, targets)
    losses = attach(small_model, weight=0.0, features="cell")(half, targets)
    for name, loss in expected.items():
        assert losses[name].dtype is loss.dtype
        torch.testing.assert_close(losses[name], loss, rtol=0.02, atol=0.02)


def test_a_later_group_of_processes_reaches_the_shared_embedding(small_model):
    attach(small_model)
    attach(small_model, name="x", process_group="ours")
    assert terms_of(small_model).embedding.processes.group == "ours"
