"""What training on a GPU adds: precisions, memory formats, compilation, several processes."""

import copy
import math
from functools import partialmethod

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detcenter import attach, detach, fast
from detcenter.models import set_gradient_checkpointing, terms_of
from detcenter.runs.preparation import compile_in_place
from detcenter.training import OverflowedStep, averaged, make_schedule, taken_back, train_step
from tests.tiny_detectors import BUILDERS, batch, built

pytestmark = pytest.mark.gpu


def attached(family, device, **options):
    return attach(built(family, **options), weight=0.3).to(device)


def step(model, data):
    """Losses, gradients and buffers; with the same draws every time."""
    torch.manual_seed(5)
    model.zero_grad()
    losses = model(*data)
    sum(losses.values()).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, dict(model.named_buffers())


def assert_same(found, expected, rounding=1e-5):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            most = rounding * max(1.0, value.abs().max().item() if value.numel() else 0.0)
            torch.testing.assert_close(ours[name], value, rtol=rounding, atol=most)


# The promises of attach, on the device.
@pytest.mark.parametrize("family", BUILDERS)
def test_with_weight_zero_losses_and_gradients_are_torchvisions(device, family):
    plain = built(family).to(device)
    own = "box" if family == "fasterrcnn" else "cell"
    model = attach(copy.deepcopy(plain), weight=0.0, features=own)
    data = batch(4, device)
    (expected, expected_gradients, _), (losses, gradients, _) = step(plain, data), step(model, data)
    assert losses.pop("loss_center") == 0
    assert_same((losses,), (expected,))
    gradients = {name: x for name, x in gradients.items() if name in expected_gradients}
    assert_same((gradients,), (expected_gradients,), 1e-4)


@pytest.mark.parametrize("family", BUILDERS)
def test_in_eval_mode_and_detached_it_is_the_plain_one(device, family):
    plain = built(family).to(device)
    model = attach(copy.deepcopy(plain), weight=0.3)
    assert {x.device for x in model.state_dict().values()} == {next(plain.parameters()).device}
    images, _ = batch(3, device)
    with torch.inference_mode():
        expected, found = plain.eval()(images), model.eval()(images)
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)
    detached = detach(model).state_dict()
    assert detached.keys() == plain.state_dict().keys()
    assert all(torch.equal(x, plain.state_dict()[name]) for name, x in detached.items())


@pytest.mark.parametrize("family", BUILDERS)
def test_without_objects_and_in_validation_no_center_moves(device, family):
    model = attached(family, device)
    images, targets = batch(2, device)
    nothing = [{name: x[:0] for name, x in target.items()} for target in targets]
    losses = model(images, nothing)
    sum(losses.values()).backward()
    with torch.no_grad():
        model(images, targets)
    assert losses["loss_center"] == 0
    assert not any(x.any() for n, x in model.named_buffers() if n.endswith("centers"))


# Precisions.
def test_a_step_that_overflows_moves_nothing(device):
    """Of weights, centers, ramps, batch norm, the schedule and the average."""
    model = attached("ssd", device, norm=nn.BatchNorm2d)
    average = averaged(model, 0.9)
    accelerator = scaled_accelerator(device, 2.0**127)
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), 0.01, momentum=0.9))
    schedule = make_schedule(optimizer.optimizer, "cosine", 10, 2)

    def state():
        parts = {"model": model, "average": average}
        kept = {f"{k} {n}": x.clone() for k, m in parts.items() for n, x in m.state_dict().items()}
        return kept | {"rates": torch.tensor(schedule.get_last_lr())}

    def one_step():
        with taken_back(model):
            train_step(model, [batch(4)], optimizer, accelerator)
        schedule.step()
        average.update_parameters(model)

    before = state()
    with pytest.raises(OverflowedStep):
        one_step()
    assert all(torch.equal(x, before[name]) for name, x in state().items())
    assert accelerator.scaler.get_scale() < 2.0**127
    accelerator.scaler.load_state_dict(accelerator.scaler.state_dict() | {"scale": 128.0})
    one_step()
    after = state()
    moved = {name for name, x in after.items() if not torch.equal(x, before[name])}
    assert "rates" in moved and any(name.endswith("centers") for name in moved)
    assert any(name.startswith("average module.head") for name in moved)
    assert all(x.isfinite().all() for x in after.values())


def scaled_accelerator(device, scale):
    """Of float16; the CPU has none in accelerate, so that in a dry run float32 is scaled."""
    precision = "fp16" if device.type == "cuda" else "no"
    accelerator = Accelerator(mixed_precision=precision)
    if accelerator.scaler is None:
        accelerator.scaler = torch.amp.GradScaler("cpu")
    accelerator.scaler.load_state_dict(torch.amp.GradScaler(device.type, scale).state_dict())
    return accelerator


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("family", BUILDERS)
def test_training_in_half_precision_learns(device, family, precision):
    model = attached(family, device)
    if precision == "fp16":
        accelerator = scaled_accelerator(device, 128.0)
    else:
        accelerator = Accelerator(mixed_precision="bf16")
    optimizer = accelerator.prepare(torch.optim.AdamW(model.parameters(), 2e-3))
    found = []
    for _ in range(12):
        losses = train_step(model, [batch(4)], optimizer, accelerator)
        found.append(sum(float(x) for x in losses.values()))
    assert all(map(math.isfinite, found)) and min(found[-3:]) < 0.9 * found[0]
    assert terms_of(model).center.losses[0].centers.dtype == torch.float32


# What changes nothing.
@pytest.mark.parametrize("family", ["ssd", "fasterrcnn"])
def test_compiled_parts_are_compiled_once_whatever_the_boxes(device, family, monkeypatch):
    """Backbone and heads, whose shapes do not depend on how many boxes there are."""
    if device.type == "cpu":  # traced as there; to make code of it takes minutes
        traced = partialmethod(nn.Module.compile, backend="eager")
        monkeypatch.setattr(nn.Module, "compile", traced)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = fast(attached(family, device))
    twin = copy.deepcopy(model)
    compile_in_place(model)
    batches = [batch(3, device, objects=n) for n in (1, 3, 2)]
    first = step(model, batches[0])
    assert_same(first[:1], step(twin, batches[0])[:1], 1e-3)
    breaks, frames = torch._dynamo.utils.counters["graph_break"].total(), compiled_frames()
    for data in batches[1:]:
        step(model, data)
    assert frames > 0 and breaks == 0
    # The box head of an R-CNN sees as many boxes as were drawn: once more, for any number.
    assert compiled_frames() - frames <= (1 if family == "fasterrcnn" else 0)


def compiled_frames():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("family", BUILDERS)
def test_computing_stages_again_changes_nothing(device, family):
    model = attached(family, device, norm=nn.BatchNorm2d)
    twin = set_gradient_checkpointing(copy.deepcopy(model))
    data = batch(3, device)
    assert_same(step(twin, data), step(model, data))


def test_an_average_follows_on_the_device(device):
    model = attached("ssd", device)
    average = averaged(model, 0.5)
    before = {name: x.clone() for name, x in average.module.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    average.update_parameters(model)
    average.update_parameters(model)  # the first copies, then 2 / 11 of the old stays
    name = "head.classification_head.module_list.0.weight"
    found = average.module.state_dict()[name]
    assert found.device.type == device.type
    torch.testing.assert_close(found, before[name] + 1)
    with torch.no_grad():
        model.get_parameter(name).add_(1)
    average.update_parameters(model)
    torch.testing.assert_close(average.module.state_dict()[name], before[name] + 2 - 3 / 12)


@pytest.fixture
def one_process(device, tmp_path):
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group(backend, init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("family", BUILDERS)
def test_in_ddp_a_step_is_the_same(device, family, one_process):
    model = attached(family, device)
    twin = copy.deepcopy(model)
    devices = [device] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(twin, device_ids=devices)
    for objects in (3, 1):
        data = batch(3, device, objects)
        expected = step(model, data)
        torch.manual_seed(5)
        twin.zero_grad()
        losses = wrapped(*data)
        sum(losses.values()).backward()
        gradients = {n: p.grad for n, p in twin.named_parameters() if p.grad is not None}
        assert_same((losses, gradients), expected[:2])


def test_synchronised_batch_norm_of_one_process_is_batch_norm(device, one_process):
    model = attached("ssd", device, norm=nn.BatchNorm2d)
    twin = copy.deepcopy(model)
    if device.type == "cuda":  # torch has it for no CPU
        twin = nn.SyncBatchNorm.convert_sync_batchnorm(twin)
        twin = DistributedDataParallel(twin, device_ids=[device]).module
    data = batch(4, device)
    assert_same(step(twin, data), step(model, data))
