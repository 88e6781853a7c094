import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from detcenter.training import TrainingError, detect, make_schedule, train_epoch
from detcenter.training.engine import collate


class Detector(nn.Module):
    """One weight; the losses are w * (mean of the images) and w^2."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))

    def forward(self, images, targets=None):
        mean = torch.stack([image.mean() for image in images]).mean()
        if self.training:
            return {"a": self.w * mean, "loss_b": self.w**2}
        return [{"boxes": torch.zeros(1, 4), "scores": image.mean()[None]} for image in images]


class Bar:
    done, text = 0, ""

    def update(self, n):
        self.done += n

    def set_postfix_str(self, s, refresh):
        self.text = s


def epoch(batches, lr=0.1, **options):
    model = Detector()
    optimizer = torch.optim.SGD(model.parameters(), lr)
    schedule = make_schedule(optimizer, "multistep", 10, 0)
    bar = Bar()
    losses = train_epoch(model, batches, optimizer, schedule, Accelerator(), bar, **options)
    return model, losses, bar


def batches(*values):
    return [([torch.full((3, 2, 2), value)], [{"image_id": 1}]) for value in values]


def test_one_epoch_by_hand():
    # gradient x + 2w: w = 2 -> 2 - 0.1 * (1 + 4) = 1.5 -> 1.5 - 0.1 * (3 + 3) = 0.9
    model, losses, bar = epoch(batches(1.0, 3.0))
    assert model.w.item() == pytest.approx(0.9)
    assert losses == pytest.approx({"a": (2 * 1 + 1.5 * 3) / 2, "loss_b": (4 + 2.25) / 2})
    assert bar.done == 2 and bar.text == "a 2 b 4"


def test_the_gradient_is_clipped():
    model, _, _ = epoch(batches(1.0), clip_grad_norm=1.0)
    assert model.w.item() == pytest.approx(1.9)


def test_a_loss_that_is_not_finite_stops_and_is_named():
    with pytest.raises(TrainingError, match=r"not finite \(a\)"):
        epoch(batches(math.inf))


def test_detect_keeps_the_order_and_the_images_apart():
    loader = [([torch.full((3, 1, 1), x) for x in values], []) for values in ((0.1, 0.2), (0.3,))]
    model = Detector().train()
    scores = [found["scores"].item() for found in detect(model, loader, torch.device("cpu"))]
    assert scores == pytest.approx([0.1, 0.2, 0.3])


def test_collate_keeps_images_of_different_sizes_apart():
    images, targets = collate([(torch.zeros(3, 2, 4), {"a": 1}), (torch.zeros(3, 5, 1), {"a": 2})])
    assert [image.shape for image in images] == [(3, 2, 4), (3, 5, 1)]
    assert targets == [{"a": 1}, {"a": 2}]
