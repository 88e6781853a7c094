import copy
import pickle

import pytest
import torch
from torch import nn
from torchvision.models.detection.ssd import SSDScoringHead

from detcenter import attach, fast, set_box_vectors, set_l2_softmax, vote
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
    vote(attach(model, features="embedding"), 0.5)
    voted = detected(model)
    assert any(
        not torch.equal(a["scores"], b["scores"]) for a, b in zip(voted, expected, strict=True)
    )


def test_l2_softmax_scales_the_vector_of_each_box(model):
    set_l2_softmax(set_box_vectors(model, DIM), 9.0)
    read = []
    classify = model.head.classification_head.classify
    classify.l2_softmax.register_forward_hook(lambda *passed: read.append(passed[2]))
    detected(model)
    (vectors,) = read
    assert vectors.shape[1] == DIM
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((len(vectors),), 9.0))


@pytest.mark.filterwarnings("ignore")  # torch's, that scripting is old
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


def test_the_new_layers_have_the_dtype_of_the_old(model):
    set_box_vectors(model.double(), DIM)
    assert {p.dtype for p in model.parameters()} == {torch.float64}


class OwnHead(nn.Module):
    def forward(self, maps):
        return maps


def test_wrong_use_is_a_clear_error_and_changes_nothing(model):
    with pytest.raises(TypeError, match="vectors of boxes are for SSDs, not for FCOS"):
        set_box_vectors(fcos())
    with pytest.raises(ValueError, match="at least 1 dimension, not 0"):
        set_box_vectors(model, 0)
    set_l2_softmax(model, 9.0)
    keys = model.state_dict().keys()
    with pytest.raises(ValueError, match="set_l2_softmax comes after set_box_vectors"):
        set_box_vectors(model)
    assert model.state_dict().keys() == keys
    for own in (OwnHead(), None):
        model.head.classification_head = own
        with pytest.raises(TypeError, match="classification head of this SSD is of your own"):
            set_box_vectors(model)
