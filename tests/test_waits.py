"""Each operation by itself. On a machine with a CUDA device the same numbers are asked of it."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.ops import nms

from detcenter.waits import counted_waits, pretended_cuda


@pytest.fixture
def device():
    with pretended_cuda() as device:
        yield device


def waits_of(function, *args):
    with counted_waits() as waits:
        function(*args)
    return waits.total


def put(x, index, value):
    x[index] = value


WAITING = {
    "item": (1, lambda x: x.sum().item()),
    "float": (1, lambda x: float(x[0, 0])),
    "an if": (1, lambda x: 1 if (x > 0).all() else 0),
    "int as an index": (1, lambda x: x[(x > 5).sum() - 1]),
    "tolist, however long": (1, lambda x: x.tolist()),
    "cpu": (1, lambda x: x.cpu()),
    "to the CPU": (1, lambda x: x.to("cpu")),
    "nonzero": (1, lambda x: x.nonzero()),
    "where with one argument": (1, lambda x: torch.where(x > 0)),
    "masked_select": (1, lambda x: x.masked_select(x > 0)),
    "a mask": (1, lambda x: x[x > 0]),
    "the same mask twice": (2, lambda x: (x[x > 0], x[x > 0])),
    "a mask of rows": (1, lambda x: x[(x > 0).any(1)]),
    "a tensor put where a mask is": (1, lambda x: put(x, x > 0, x.sum())),
    "unique": (1, lambda x: x.unique()),
    "unique with counts": (1, lambda x: x.unique(return_inverse=True, return_counts=True)),
    "repeat_interleave": (1, lambda x: x.repeat_interleave(torch.ones_like(x[:, 0]).long(), 0)),
    "equal": (1, lambda x: torch.equal(x, x + 1)),
    "allclose": (1, lambda x: torch.allclose(x, x + 1)),
    "a tensor of numbers": (1, lambda x: torch.tensor([1.0, 2.0], device=x.device)),
    "new_tensor": (1, lambda x: x.new_tensor([1.0, 2.0])),
    "as_tensor of a list": (1, lambda x: torch.as_tensor([1, 2], device=x.device)),
    "from the host": (1, lambda x: torch.ones(2).to(x.device)),
    "from the host by copy_": (1, lambda x: x.copy_(torch.ones(3, 4))),
    "indices of the host": (1, lambda x: x[torch.tensor([0, 1])]),
    "a list of indices": (1, lambda x: x[[0, 1]]),
    "indices of both kinds": (2, lambda x: x[x[:, 2] > 2, torch.tensor([0, 1, 2])[:2]]),
    "two of it": (2, lambda x: (x.max().item(), x.min().item())),
    "nms": (1, lambda x: nms(x, x[:, 0], 0.5)),
}
QUEUED = {
    "arithmetic": lambda x: (x * 2 + 1).softmax(1).sum(),
    "a number put where a mask is": lambda x: put(x, x > 0, 1.0),
    "masked_fill": lambda x: x.masked_fill(x > 0, 1.0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "indices of the device": lambda x: x[x.argmax(0)],
    "a slice": lambda x: x[1:, ::2],
    "top-k and sort": lambda x: (x.topk(2), x.sort(descending=True)),
    "made on the device": lambda x: (x.new_zeros(2), torch.arange(3, device=x.device)),
    "filled on the device": lambda x: torch.full((3, 4), 2.0, device=x.device) * x,
    "to another dtype": lambda x: x.to(torch.float64).half(),
    "to where it is": lambda x: (x.to(x.device), x.to("cuda"), torch.as_tensor(x, device="cuda")),
    "without blocking": lambda x: torch.ones(2).to(x.device, non_blocking=True),
    "repeat_interleave of known size": lambda x: x.repeat_interleave(
        torch.ones_like(x[:, 0]).long(), 0, output_size=3
    ),
    "on the host": lambda x: torch.ones(3).sum().item() + len(torch.ones(3).nonzero()),
}


@pytest.fixture
def x(device):
    return torch.tensor([[0.0, 1, 2, 3], [0, 0, 5, 5], [1, 1, 6, 6]]).to(device)


@pytest.mark.parametrize("name", WAITING)
def test_operations_that_wait(x, name):
    expected, function = WAITING[name]
    assert waits_of(function, x) == expected


@pytest.mark.parametrize("name", QUEUED)
def test_operations_that_do_not_wait(x, name):
    assert waits_of(QUEUED[name], x) == 0


def test_a_wait_is_known_by_its_line(x):
    with counted_waits() as waits:
        for _ in range(3):
            x.nonzero()  # here
        x.sum().item()
    here = Path(__file__).read_text().partition("# here")[0].count("\n") + 1
    (line, count), _ = waits.lines.most_common()
    assert count == 3 and line.endswith(f"test_waits.py:{here}")
    assert str(waits).startswith("4 waits\n      3 ")


def test_waits_of_the_backward_pass_count(x):
    class Looks(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            assert gradient.sum().item() == 12
            return gradient

    x.requires_grad_()
    y = Looks.apply(x).sum()
    assert waits_of(y.backward) == 1
    assert x.grad.device == x.device and x.grad.shape == x.shape


def test_only_what_is_inside_counts(x):
    x.sum().item()
    with counted_waits() as outer:
        x.sum().item()
        with counted_waits() as inner:
            x.sum().item()
    x.sum().item()
    assert (outer.total, inner.total) == (2, 1)


def test_a_module_learns_as_on_the_cpu(device):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    images = torch.rand(2, 3, 8, 8)
    module(images)
    there = copy.deepcopy(module).to(device)
    for model, batch in ((module, images), (there, images.to(device))):
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        for _ in range(2):
            nn.functional.cross_entropy(model(batch), batch.new_zeros(2).long()).backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, value in there.state_dict().items():
        assert value.is_cuda and value.device == device
        expected = module.state_dict()[name]
        torch.testing.assert_close(value.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_devices_are_not_mixed(x):
    with pytest.raises(RuntimeError, match="device"):
        x + torch.ones(4)
    assert (x + torch.tensor(1.0)).device == x.device  # a scalar may be the host's
