import copy

import pytest
import torch

from detcenter.models import build_model

BUILDERS = {
    "ssd300_vgg16": {"name": "ssd300_vgg16"},
    "ssdlite320": {"name": "ssdlite320_mobilenet_v3_large"},
    "ssd_mobilenet_v2": {
        "name": "ssd",
        "backbone": "mobilenet_v2",
        "image_size": 96,
        "strides": [8, 16],
        "anchor_scales": [[0.15, 0.25], [0.4]],
        "frozen_batch_norm": True,
    },
}
CLASSES = 4  # with background


@pytest.fixture(scope="session")
def built():
    """Every supported model, built once; `plain_model` gives copies."""
    torch.manual_seed(0)
    return {key: build_model(num_classes=CLASSES, **args) for key, args in BUILDERS.items()}


@pytest.fixture(params=BUILDERS)
def plain_model(request, built):
    """A fresh copy of a model that nothing was ever attached to."""
    return copy.deepcopy(built[request.param]).train()


@pytest.fixture
def small_model(built):
    """The cheapest of them, for what does not depend on the family."""
    return copy.deepcopy(built["ssd_mobilenet_v2"]).train()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 90, 120, generator=generator) for _ in range(2)]


@pytest.fixture
def targets():
    boxes = torch.tensor(
        [[8.0, 6.0, 60.0, 70.0], [70.0, 20.0, 110.0, 60.0], [30.0, 40.0, 50.0, 64.0]]
    )
    return [
        {"boxes": boxes, "labels": torch.tensor([1, 3, 2])},
        {"boxes": boxes[:1], "labels": torch.tensor([2])},
    ]


@pytest.fixture
def no_targets():
    return [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}] * 2
