"""The trainer's loop waits for a device once a step and once a batch of detections, or less."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detcenter import waits
from detcenter.training import LossMeans, averaged, detect, train_step


class Detector(nn.Module):
    """It waits for nothing itself."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images, targets=None):
        found = self.norm(self.layer(torch.stack(images))).mean((2, 3))
        if self.training:
            return {
                "a": found.square().sum(),
                "b": torch.stack([t["boxes"] for t in targets]).sum(),
            }
        return [{"boxes": x[None], "scores": x[:1], "labels": x[:1].long()} for x in found]


@pytest.fixture
def device():
    with waits.pretended_cuda() as device:
        yield device


def batch(count=3):
    images = [torch.rand(3, 4, 4) for _ in range(count)]
    return images, [{"boxes": torch.ones(2, 4), "image_id": n} for n in range(count)]


def test_a_step(device):
    """The one wait is for an event, which asks the device for no value, and is not counted."""
    model = Detector().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    accelerator = SimpleNamespace(
        device=device, autocast=nullcontext, backward=lambda loss: loss.backward()
    )
    means, average = LossMeans(), averaged(model, 0.9)
    for passes in ([batch()], [batch(), batch()]):
        with waits.counted_waits() as counted:
            means.add(train_step(model, passes, optimizer, accelerator))
            average.update_parameters(model)
            means.means()
        assert counted.total == 0, str(counted)


def test_detections(device):
    model, loader = Detector().to(device), [batch(2), batch(5)]
    with waits.counted_waits() as counted:
        found = [*detect(model, loader, device)]
    assert counted.total == 0, str(counted)
    assert len(found) == 7 and found[0]["boxes"].device.type == "cpu"
