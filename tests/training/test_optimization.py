import math

import pytest
import torch

from detcenter.training import make_optimizer, make_schedule


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return found


@pytest.fixture
def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def test_multistep_warms_up_and_falls_at_its_milestones(optimizer):
    schedule = make_schedule(optimizer, "multistep", 10, 4, milestones=[6, 8], gamma=0.1)
    warm = [2 * (0.001 + 0.999 * step / 4) for step in range(4)]
    assert rates(schedule, 10) == pytest.approx([*warm, 2, 2, 0.2, 0.2, 0.02, 0.02])


def test_cosine_falls_along_half_a_cosine_to_zero(optimizer):
    schedule = make_schedule(optimizer, "cosine", 12, 2)
    found = rates(schedule, 13)
    assert found[2] == 2 and found[12] == pytest.approx(0)
    assert found[7] == pytest.approx(1)  # half-way
    assert found[4] == pytest.approx(1 + math.cos(math.pi / 5))


def test_frozen_parameters_are_not_optimized_and_adamw_decays_no_biases():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    model[0].requires_grad_(False)
    sgd = make_optimizer(model, "sgd", 0.1, 0.5, momentum=0.8)
    assert [p.shape for p in sgd.param_groups[0]["params"]] == [(1, 3), (1,)]
    assert sgd.param_groups[0]["momentum"] == 0.8
    adamw = make_optimizer(model, "adamw", 0.1, 0.5)
    decay = {p.shape: g["weight_decay"] for g in adamw.param_groups for p in g["params"]}
    assert decay == {(1, 3): 0.5, (1,): 0.0}


def test_the_backbone_has_its_part_of_the_rate_and_the_pyramid_the_whole():
    model = torch.nn.ModuleDict(
        {
            "backbone": torch.nn.ModuleDict(
                {"body": torch.nn.Linear(2, 3), "fpn": torch.nn.Linear(3, 4)}
            ),
            "head": torch.nn.Linear(4, 5),
        }
    )
    names = {p: name for name, p in model.named_parameters()}
    for kind in ("sgd", "adamw"):
        optimizer = make_optimizer(model, kind, 0.1, 0.5, backbone_lr_factor=0.2)
        rates = {names[p]: g["lr"] for g in optimizer.param_groups for p in g["params"]}
        assert rates.pop("backbone.body.weight") == rates.pop("backbone.body.bias") == 0.1 * 0.2
        assert set(rates.values()) == {0.1} and "backbone.fpn.weight" in rates
