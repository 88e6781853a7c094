import copy
import pickle

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torchvision.models.detection.ssd import SSD, SSDScoringHead

from detcenter import attach, detach, fast, set_box_vectors, set_l2_softmax, vote
from detcenter.models import family_of
from tests.tiny_detectors import BOXES, CLASSES, SIZE, fcos, ssd, ssdlite

DIM = 6
IMAGES = list(torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(params=[ssd, ssdlite], ids=["ssd", "ssdlite"])
def model(request):
    torch.manual_seed(0)
    return request.param()


def targets():
    return [{"boxes": BOXES, "labels": torch.tensor([1, 2, 3])} for _ in IMAGES]


def detected(model):
    with torch.no_grad():
        return model.eval()(IMAGES)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert len(other["labels"])
        for key in other:
            torch.testing.assert_close(one[key], other[key])


def last_of(level):
    return level if isinstance(level, nn.Conv2d) else level[-1]


def test_with_the_unit_matrix_as_table_the_vectors_are_torchvisions_logits(model):
    plain = copy.deepcopy(model)
    set_box_vectors(model, CLASSES)
    branch = model.head.classification_head
    theirs = plain.head.classification_head.module_list
    for ours, level in zip(branch.vectors.module_list, theirs, strict=True):
        last_of(ours).load_state_dict(last_of(level).state_dict())
    with torch.no_grad():
        branch.classify.weight.copy_(torch.eye(CLASSES))
    assert_equal(detected(model), detected(plain))


def test_one_layer_classifies_every_box_of_every_map(model):
    set_box_vectors(model, DIM)
    branch = model.head.classification_head.eval()
    maps = [torch.rand(2, 32, 3, 2), torch.rand(2, 32, 1, 2)]
    with torch.no_grad():
        logits = branch(maps)
        row = 0
        for x, layers in zip(maps, branch.vectors.module_list, strict=True):
            made = layers(x)
            boxes = made.shape[1] // DIM
            for at in range(x.shape[2] * x.shape[3]):
                for box in range(boxes):
                    vectors = made[:, box * DIM : (box + 1) * DIM].flatten(2)[..., at]
                    expected = vectors @ branch.classify.weight.T
                    torch.testing.assert_close(logits[:, row], expected)
                    row += 1
    assert logits.shape == (2, row, CLASSES)


def test_all_of_it_trains_with_a_term_and_what_reads_the_head_finds_its_sizes(model):
    widths = family_of(model).feature_widths(model)
    set_box_vectors(model, DIM)
    assert family_of(model).num_classes(model) == CLASSES
    assert family_of(model).feature_widths(model) == widths == [32, 32]
    attach(model, features="embedding")
    losses = model(IMAGES, targets())
    assert losses.keys() >= {"classification", "loss_center", "loss_embedding"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.head.classification_head.classify.weight.grad.any()


def test_fast_it_finds_what_torchvision_finds(model):
    set_box_vectors(model, DIM)
    expected = detected(model)
    assert_equal(detected(fast(model)), expected)
    torch.manual_seed(1)
    slow = set_box_vectors(copy.deepcopy(model), DIM).train()
    losses = fast(copy.deepcopy(slow))(IMAGES, targets())
    for name, loss in slow(IMAGES, targets()).items():
        torch.testing.assert_close(losses[name], loss)


def test_an_embedding_votes_as_on_any_ssd(model):
    set_box_vectors(model, DIM)
    plain = detected(model)
    vote(attach(model, features="embedding"), 0.0)
    assert_equal(detected(model), plain)
    vote(model, 1.0)
    of_classes = [x["scores"].sum() for x in plain], [x["scores"].sum() for x in detected(model)]
    assert not torch.allclose(*map(torch.stack, of_classes))
    assert_equal(detected(detach(model)), plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_it_trains(model, dtype):
    attach(set_box_vectors(model, DIM))
    with torch.autocast("cpu", dtype):
        losses = model(IMAGES, targets())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_l2_softmax_scales_the_vector_of_each_box(model):
    set_l2_softmax(set_box_vectors(model, DIM), 9.0)
    read = []
    classify = model.head.classification_head.classify
    classify.l2_softmax.register_forward_hook(lambda *passed: read.append(passed[2]))
    detected(model)
    (vectors,) = read
    assert vectors.shape[1] == DIM
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((len(vectors),), 9.0))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_copies_pickles_state_dicts_and_torchscript(model):
    before = model.state_dict().keys()
    expected = detected(set_box_vectors(model, DIM))
    assert_equal(detected(copy.deepcopy(model)), expected)
    assert_equal(detected(pickle.loads(pickle.dumps(model))), expected)
    state = model.state_dict()
    new = {key for key in state if key not in before}
    assert all(key.startswith("head.classification_head.") for key in new)
    again = set_box_vectors(copy.deepcopy(model), DIM)
    again.load_state_dict(state)
    assert_equal(detected(again), expected)
    maps = [torch.rand(1, 32, 4, 4), torch.rand(1, 32, 2, 2)]
    scripted = torch.jit.script(model.head)(maps)
    torch.testing.assert_close(scripted["cls_logits"], model.head(maps)["cls_logits"])


def test_a_second_call_starts_anew_with_its_own_dimensions(model):
    set_box_vectors(set_box_vectors(model, DIM), 9)
    branch = model.head.classification_head
    assert branch.classify.weight.shape == (CLASSES, 9)
    assert isinstance(branch.vectors, SSDScoringHead)
    assert all(len(found["labels"]) for found in detected(model))
    rows = branch.classify.weight.detach()
    torch.testing.assert_close(rows @ rows.T, torch.eye(CLASSES))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_new_layers_have_the_dtype_and_the_mode_of_the_old(model, dtype):
    set_box_vectors(model.to(dtype).eval(), DIM)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not any(module.training for module in model.modules())


def test_the_last_convolution_keeps_all_but_its_channels(model):
    for level in model.head.classification_head.module_list:
        if isinstance(level, nn.Conv2d):
            level.dilation, level.padding, level.bias = (2, 2), (2, 2), None
    set_box_vectors(model, DIM)
    for level in model.head.classification_head.vectors.module_list:
        if isinstance(level, nn.Conv2d):
            assert (level.dilation, level.padding, level.bias) == ((2, 2), (2, 2), None)
    assert all(len(found["labels"]) for found in detected(model))


class OwnHead(nn.Module):
    def forward(self, maps):
        return maps


def refuses(model, error, message, dim=DIM):
    """And detects what it did."""
    expected = detected(model)
    with pytest.raises(error, match=message):
        set_box_vectors(model, dim)
    assert_equal(detected(model), expected)


def test_wrong_use_is_a_clear_error_and_changes_nothing(model):
    with pytest.raises(TypeError, match="are for SSDs, not for FCOS; a model that is wrapped"):
        set_box_vectors(fcos())
    for dim in (0, 64.0, "64", None):
        refuses(model, ValueError, f"1 dimension or more, not {dim!r}", dim)
    changed = copy.deepcopy(model)
    refuses(set_l2_softmax(changed, 9.0), ValueError, "set_l2_softmax comes after set_box_vectors")
    changed = copy.deepcopy(model)
    branch = changed.head.classification_head
    branch.forward = branch.forward
    refuses(changed, TypeError, "classification head of this SSD is of your own")
    changed = copy.deepcopy(model)
    channels = last_of(changed.head.classification_head.module_list[1]).out_channels
    pooled = nn.Sequential(nn.Flatten(2), Spread(channels))
    changed.head.classification_head.module_list[1] = pooled
    refuses(changed, TypeError, "classification head of this SSD is of your own")
    sharded = copy.deepcopy(model)
    sharded.__class__ = type("FSDPSSD", (FSDPModule, SSD), {})
    with pytest.raises(ValueError, match="sharded: set the vectors of boxes before fully_shard"):
        set_box_vectors(sharded)
    for own in (OwnHead(), None):
        model.head.classification_head = own
        with pytest.raises(TypeError, match="classification head of this SSD is of your own"):
            set_box_vectors(model)


class Spread(nn.Module):
    """Logits without a convolution."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, flat):
        side = round(flat.shape[2] ** 0.5)
        return flat.mean(1, keepdim=True).expand(-1, self.channels, -1).unflatten(2, (side, side))
