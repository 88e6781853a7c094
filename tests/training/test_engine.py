import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from detcenter.training import LossMeans, NotFiniteError, detect, engine, taken_back, train_step


class Detector(nn.Module):
    """One weight; the losses are w * (mean of the images) and w^2; a buffer counts the passes."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, images, targets=None):
        mean = torch.stack([image.mean() for image in images]).mean()
        if self.training:
            self.passes += 1
            return {"a": self.w * mean, "loss_b": self.w**2}
        box = {"boxes": torch.zeros(1, 4), "labels": torch.ones(1)}
        return [box | {"scores": image.mean()[None]} for image in images]


def steps(*groups, lr=0.1, **options):
    """A step a group of values, each the only image of a pass; the model and the losses."""
    model = Detector()
    optimizer = torch.optim.SGD(model.parameters(), lr)
    losses = [train_step(model, batches(*g), optimizer, Accelerator(), **options) for g in groups]
    return model, [{name: float(x) for name, x in found.items()} for found in losses]


def batches(*values):
    return [([torch.full((3, 2, 2), x)], [{"image_id": n}]) for n, x in enumerate(values, 1)]


def test_two_steps_by_hand():
    # gradient x + 2w: w = 2 -> 2 - 0.1 * (1 + 4) = 1.5 -> 1.5 - 0.1 * (3 + 3) = 0.9
    model, losses = steps((1.0,), (3.0,))
    assert model.w.item() == pytest.approx(0.9)
    assert losses[0] == pytest.approx({"a": 2.0, "loss_b": 4.0})
    assert losses[1] == pytest.approx({"a": 4.5, "loss_b": 2.25})


def test_passes_are_one_step_on_their_mean():
    model, losses = steps((1.0, 3.0))
    assert model.w.item() == pytest.approx(2 - 0.1 * (2 + 4))
    assert losses == [pytest.approx({"a": 4.0, "loss_b": 4.0})]


def test_passes_may_count_for_more_than_others():
    weights = iter([3, 1])
    model, losses = steps((1.0, 5.0), weigh=lambda: torch.tensor(next(weights)))
    assert model.w.item() == pytest.approx(2 - 0.1 * ((3 * 1 + 5) / 4 + 4))
    assert losses == [pytest.approx({"a": 2 * 2.0, "loss_b": 4.0})]


def test_what_a_pass_counts_may_be_a_buffer_that_the_next_one_fills():
    weights, buffer = iter([3, 1]), torch.zeros((), dtype=torch.int64)
    model, losses = steps((1.0, 5.0), weigh=lambda: buffer.fill_(next(weights)))
    assert model.w.item() == pytest.approx(2 - 0.1 * ((3 * 1 + 5) / 4 + 4))
    assert losses == [pytest.approx({"a": 2 * 2.0, "loss_b": 4.0})]


def test_the_gradient_is_clipped():
    model, _ = steps((1.0,), clip_grad_norm=1.0)
    assert model.w.item() == pytest.approx(1.9)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_changes_no_weight_and_is_named(value):
    model = Detector()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(NotFiniteError) as raised, taken_back(model):
        train_step(model, batches(1.0, value), optimizer, Accelerator())
    assert raised.value.image_ids == [2]
    assert str(raised.value) == f"the loss is not finite: a {value}, loss_b 4; images [2]"
    assert model.w.item() == 2 and model.w.grad is None and model.passes == 0


def test_means_of_losses_go_on_from_a_checkpoint():
    first, second = LossMeans(), LossMeans()
    first.add({"a": torch.tensor(1.0)})
    second.load_state_dict(first.state_dict())
    second.add({"a": torch.tensor(4.0)})
    assert second.means() == {"a": 2.5} and first.means() == {"a": 1.0}


def test_detect_keeps_the_order_and_the_images_apart():
    loader = [([torch.full((3, 1, 1), x) for x in values], []) for values in ((0.1, 0.2), (0.3,))]
    model = Detector().train()
    scores = [found["scores"].item() for found in detect(model, loader, torch.device("cpu"))]
    assert scores == pytest.approx([0.1, 0.2, 0.3])


def test_losses_are_looked_at_when_the_gradients_are_under_way(monkeypatch):
    """And before any weight moves; of the passes of a step together, so that none waits."""
    events, way = [], engine.on_the_way

    def noted(tensors):
        arrive = way(tensors)
        events.append("sent")
        return lambda: events.append("read") or arrive()

    monkeypatch.setattr(engine, "on_the_way", noted)
    model = Detector()
    model.w.register_hook(lambda gradient: events.append("gradient"))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.register_step_pre_hook(lambda *_: events.append("step"))
    train_step(model, batches(1.0, 2.0), optimizer, Accelerator())
    assert events == ["sent", "gradient", "sent", "gradient", "read", "read", "step"]


class Found(nn.Module):
    """Gives so many boxes as the image is high; one image's masks differ in size from another's.

    Labels are from 0 on: the first box of an image is background.
    """

    def forward(self, images):
        every = torch.arange(10.0)
        return [
            {
                "boxes": every[:n, None].expand(n, 4),
                "labels": every[:n].long(),
                "masks": torch.ones(n, 1, n, 7, dtype=torch.bool),
                "features": every[:n].half(),
            }
            for n in [image.shape[1] for image in images]
        ]


def test_detections_of_a_batch_are_each_images_own_without_the_background():
    loader = [([torch.zeros(3, n, 2) for n in sizes], []) for sizes in ((2, 0, 3), (1,))]
    found = [*detect(Found(), loader, torch.device("cpu"))]
    for image, n in zip(found, (2, 0, 3, 1), strict=True):
        objects = max(0, n - 1)
        assert image["boxes"].tolist() == [[float(k)] * 4 for k in range(1, n)]
        assert image["labels"].tolist() == list(range(1, n))
        assert image["labels"].dtype == torch.int64
        assert image["masks"].shape == (objects, 1, n, 7) and image["masks"].dtype == torch.bool
        assert image["features"].dtype == torch.float16
        # of its own, so that it is not kept in memory with the others, or saved with them
        assert image["boxes"].untyped_storage().nbytes() == 16 * objects
