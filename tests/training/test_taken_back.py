"""A step that is passed over is as if it had never been: weights, centers, ramps, draws."""

import copy
import math

import pytest
import torch
from accelerate import Accelerator

from detcenter import RankHardLoss, attach, held_centers
from detcenter.models import terms_of
from detcenter.training import NotFiniteError, OverflowedStep, taken_back, train_step

from .test_processes import batch_of, small_ssd


@pytest.fixture
def model():
    model = small_ssd("embedding", warmup_steps=4)
    return attach(model, RankHardLoss(), weight=0.3, name="rank", warmup_steps=9)


def whole_state(model):
    """With what is not saved: the sums that wait for the step, and the numbers of draws."""
    tensors = {name: x.clone() for name, x in model.named_buffers()}
    tensors |= {name: x.detach().clone() for name, x in model.named_parameters()}
    return tensors | {"calls": torch.tensor(terms_of(model).rank.losses[0].calls)}


def passes(broken=None, images=3):
    """Three batches; in the second one the images, or the boxes, are not numbers."""
    found = []
    for number in range(3):
        x, targets = batch_of(images)
        if number == 1 and broken == "features":
            x = [image * math.nan for image in x]
        if number == 1 and broken == "boxes":
            targets = [
                t | {"boxes": t["boxes"] + torch.tensor([0, 0, 1e38, 1e38])} for t in targets
            ]
        found.append((x, targets))
    return found


def losses_of_a_step(model, group):
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    found = train_step(model, group, optimizer, Accelerator())
    return {name: float(x) for name, x in found.items()}


@pytest.mark.parametrize("broken", ["features", "boxes"])
def test_a_pass_that_is_not_finite_leaves_nothing_of_its_step(model, broken):
    losses_of_a_step(model, passes())
    twin, before = copy.deepcopy(model), whole_state(model)
    for _ in range(3):  # many would go wrong one after the other
        with pytest.raises(NotFiniteError), taken_back(model):
            losses_of_a_step(model, passes(broken))
    for name, value in whole_state(model).items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())
    for _ in range(2):
        expected = losses_of_a_step(twin, passes())
        assert losses_of_a_step(model, passes()) == expected
        assert all(map(math.isfinite, expected.values())) and expected["loss_rank"] > 0
    for name, value in whole_state(twin).items():
        assert torch.equal(whole_state(model)[name], value), name


def test_a_step_that_the_loss_scaler_passes_over_moves_nothing(model):
    class Overflows(torch.optim.SGD):
        step_was_skipped = True

        def step(self, closure=None):
            pass

    before = whole_state(model)
    with pytest.raises(OverflowedStep), taken_back(model):
        train_step(model, passes(), Overflows(model.parameters(), 0.1), Accelerator())
    for name, value in whole_state(model).items():
        assert torch.equal(value, before[name]), name


def test_in_a_loop_of_ones_own_the_next_good_batch_has_its_loss(model):
    """Without anything taken back: what is not finite does not reach the centers."""
    twin = copy.deepcopy(model)
    x, targets = batch_of(3)
    sum(model([image * math.nan for image in x], targets).values()).backward()
    assert all(c.isfinite().all() for name, c in model.named_buffers() if "centers" in name)
    for one in (model, twin):
        terms_of(one).center.step.zero_()
        terms_of(one).center.warmup_steps = 0
    assert model(x, targets)["loss_center"] == twin(x, targets)["loss_center"] > 0


def test_a_validation_loss_moves_nothing(model):
    x, targets = batch_of(3)
    model(x, targets)
    before = whole_state(model)
    with torch.no_grad():
        model(x, targets)
    model.eval()
    model.training = True  # torchvision's way to a validation loss without batch norm
    losses = model(x, targets)
    with held_centers(model):
        model(x, targets)
    assert losses["loss_center"] > 0 and losses["loss_embedding"] > 0
    for name, value in whole_state(model).items():
        assert torch.equal(value, before[name]), name
