"""The promises of an attached model, each against the plain torchvision model."""

import copy
import pickle

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from detcenter import Embedding, attach, detach
from detcenter.models import terms_of
from tests import tiny_detectors

from .conftest import FAMILIES, own


@pytest.fixture(params=["own", "embedding"])
def source(request):
    return None if request.param == "own" else request.param


def train_losses(model, images, targets):
    """With the same random numbers, by which the R-CNNs sample proposals."""
    torch.manual_seed(7)
    return model(images, targets)


def gradients(model, losses):
    model.zero_grad()
    sum(losses.values()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def centers(model):
    return [buffer for name, buffer in model.named_buffers() if name.endswith("centers")]


# 1. With weight 0 every other loss and every gradient is plain torchvision's.
def test_with_weight_zero_losses_and_gradients_are_torchvisions(
    plain_model, source, images, targets
):
    attached = copy.deepcopy(plain_model)
    attach(attached, weight=0.0, features=source and Embedding(weight=0.0) or own(attached))
    expected = train_losses(plain_model, images, targets)
    losses = train_losses(attached, images, targets)
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-5, atol=1e-6)
    assert all(losses[name] == 0 for name in losses.keys() - expected.keys())
    expected_gradients = gradients(plain_model, expected)
    got = gradients(attached, losses)
    assert expected_gradients.keys() <= got.keys()
    # A bias before batch norm has a gradient of zero, of which rounding is all that is seen.
    rounding = 1e-6 * max(gradient.abs().max().item() for gradient in expected_gradients.values())
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=rounding)


def test_only_the_terms_losses_are_added(plain_model, source, images, targets):
    plain = train_losses(copy.deepcopy(plain_model), images, targets).keys()
    attach(plain_model, weight=0.3, features=source or own(plain_model))
    losses = train_losses(plain_model, images, targets)
    added = {"loss_center"} | ({"loss_embedding"} if source == "embedding" else set())
    assert losses.keys() == plain | added
    # centers start at zero, so on the unit sphere the loss is 1/2, times the weight
    torch.testing.assert_close(losses["loss_center"].item(), 0.15)


# 2. In eval mode outputs are equal to the bit, and nothing is computed for the term.
def test_in_eval_mode_outputs_are_equal_to_the_bit_at_the_same_cost(
    plain_model, source, images, targets
):
    attached = attach(copy.deepcopy(plain_model), weight=0.3, features=source)
    used = []
    for module in terms_of(attached).modules():
        module.register_forward_hook(lambda *args: used.append(args))
    with torch.inference_mode():
        expected, got = plain_model.eval()(images), attached.eval()(images)
    assert not used
    for one, other in zip(got, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    attached.train()(images, targets)
    assert used  # the hooks do see the term where it runs


# 3. Checkpoint keys are only added.
def test_checkpoint_keys_are_only_added_and_detach_drops_them(plain_model, source, images):
    before = {name: x.clone() for name, x in plain_model.state_dict().items()}
    attached = attach(plain_model, weight=0.3, features=source or own(plain_model))
    added = attached.state_dict().keys() - before.keys()
    assert before.keys() <= attached.state_dict().keys()
    below = ("box_terms.center.", "box_terms.embedding.")
    assert added and all(any(part in name for part in below) for name in added)
    plain = detach(attached)
    assert plain is plain_model
    assert plain.state_dict().keys() == before.keys()
    assert all(torch.equal(x, before[name]) for name, x in plain.state_dict().items())
    for module in plain.modules():
        assert type(module).__name__[:8] != "Attached" and not hasattr(module, "box_terms")
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_a_detached_model_trains_as_a_plain_one(small_model, source, images, targets):
    detached = detach(attach(copy.deepcopy(small_model), weight=1.0, features=source))
    expected, got = (
        train_losses(small_model, images, targets),
        train_losses(detached, images, targets),
    )
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


# 4. Copies, pickles, moves, DDP, compile.
def test_copies_and_pickles_do_not_write_into_the_original(plain_model, source, images, targets):
    attached = attach(plain_model, weight=0.3, features=source or own(plain_model))
    for twin in (copy.deepcopy(attached), pickle.loads(pickle.dumps(attached))):
        state = {name: x.clone() for name, x in attached.state_dict().items()}
        losses = train_losses(twin, images, targets)
        sum(losses.values()).backward()
        assert any(table.any() for table in centers(twin))
        assert all(torch.equal(x, state[name]) for name, x in attached.state_dict().items())
        assert all(p.grad is None for p in attached.parameters())
        assert {"loss_center"} <= losses.keys()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_model_can_be_moved_to_another_dtype(small_model, source, images, targets, dtype):
    attached = attach(small_model, weight=0.3, features=source or own(small_model)).to(dtype)
    kept = torch.float64 if dtype is torch.float64 else torch.float32
    assert {table.dtype for table in centers(attached)} == {kept}
    moved = [{"boxes": t["boxes"].to(kept), "labels": t["labels"]} for t in targets]
    losses = attached([image.to(dtype) for image in images], moved)
    sum(losses.values()).backward()
    assert losses["loss_center"].dtype == kept and losses["loss_center"] > 0


@pytest.mark.parametrize("family", ["ssd", "fasterrcnn", "retinanet"])
def test_attached_on_another_device_the_term_is_there_too(built, family, source):
    features = source or own(built[family])
    attached = attach(copy.deepcopy(built[family]).to("meta"), weight=1.0, features=features)
    assert {x.device.type for x in attached.state_dict().values()} == {"meta"}


@pytest.fixture
def one_process_group(tmp_path):
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_in_ddp_losses_and_gradients_are_the_same(
    plain_model, source, images, targets, no_targets, one_process_group
):
    attached = attach(plain_model, weight=0.3, features=source or own(plain_model))
    twin = copy.deepcopy(attached)
    wrapped = DistributedDataParallel(twin)
    for batch in (targets, no_targets):  # a second pass fails if a parameter was left out
        expected, got = train_losses(attached, images, batch), train_losses(wrapped, images, batch)
        expected_gradients, got_gradients = gradients(attached, expected), gradients(twin, got)
        for name in expected:
            torch.testing.assert_close(got[name], expected[name])
        for name, gradient in expected_gradients.items():
            torch.testing.assert_close(got_gradients[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_it_is_no_more_graphs_than_torchvisions(family, images, targets):
    """Whatever the terms read: they are not compiled."""

    def graphs(model):
        torch._dynamo.reset()
        return torch._dynamo.explain(model)(images, targets).graph_count

    plain = graphs(tiny_detectors.built(family))
    assert graphs(attach(tiny_detectors.built(family), weight=0.3)) <= plain


def test_compiled_losses_are_the_eager_ones(source):
    model, (images, targets) = tiny_detectors.built("ssd"), tiny_detectors.batch(2)
    attached = attach(model, weight=0.3, features=source or own(model))
    twin = copy.deepcopy(attached)
    torch._dynamo.reset()
    compiled = torch.compile(twin, backend="eager")
    for _ in range(2):
        expected, got = (
            train_losses(attached, images, targets),
            train_losses(compiled, images, targets),
        )
        for name in expected:
            torch.testing.assert_close(got[name], expected[name])
    for one, other in zip(centers(twin), centers(attached), strict=True):
        torch.testing.assert_close(one, other)


# 6. No positives: a zero that carries a graph.
def test_without_objects_the_term_is_a_zero_with_a_graph(plain_model, source, images, no_targets):
    attached = attach(plain_model, weight=0.3, features=source or own(plain_model))
    losses = train_losses(attached, images, no_targets)
    added = {name: losses[name] for name in losses.keys() & {"loss_center", "loss_embedding"}}
    assert added and all(loss == 0 for loss in added.values())
    sum(added.values()).backward()
    grads = [p.grad for p in terms_of(attached).parameters()]
    assert all(grad is not None and not grad.any() for grad in grads)
    assert any(p.grad is not None for p in attached.backbone.parameters())
    assert not any(table.any() for table in centers(attached))


# 7. A loss on validation images moves nothing.
@pytest.mark.parametrize("way", ["no_grad", "container"])
def test_a_validation_loss_is_the_training_loss_and_moves_nothing(
    plain_model, source, images, targets, way
):
    attached = attach(plain_model, features=source or own(plain_model), warmup_steps=3)
    terms_of(attached).center.step += 2
    expected = train_losses(copy.deepcopy(attached), images, targets)
    if way == "container":  # torchvision's way to it without touching batch norm
        attached.eval()
        for part in (
            attached,
            getattr(attached, "rpn", None),
            getattr(attached, "roi_heads", None),
        ):
            if part is not None:
                part.training = True
    before = {name: buffer.clone() for name, buffer in attached.named_buffers()}
    with torch.set_grad_enabled(way == "container"):
        losses = train_losses(attached, images, targets)
    assert losses.keys() == expected.keys() and losses["loss_center"] > 0
    if way == "no_grad" or not hasattr(attached, "rpn"):  # an R-CNN in eval mode draws others
        torch.testing.assert_close(losses, expected)
    assert all(torch.equal(x, before[name]) for name, x in attached.named_buffers())


def test_one_image_without_objects_is_as_if_the_other_were_alone(
    small_model, source, images, targets, no_targets
):
    attached = attach(small_model, weight=0.3, features=source or own(small_model))
    twin = copy.deepcopy(attached)
    both = train_losses(attached, images, [targets[0], no_targets[0]])
    alone = train_losses(twin, images[:1], targets[:1])
    for name in alone:
        torch.testing.assert_close(both[name], alone[name])
