"""TorchScript takes torchvision's detectors; it takes them back after detcenter was there."""

import copy

import pytest
import torch
from torchvision.models import get_model

from detcenter import attach, detach
from detcenter.models import build_model

NAMES = (
    "ssdlite320_mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_built_attached_and_detached_a_detector_scripts_as_torchvisions_does(name):
    options = {"weights_backbone": None, "num_classes": 3}
    if "ssd" not in name:
        options |= {"min_size": 64, "max_size": 96}
    torch.jit.script(get_model(name, weights=None, **options))
    model = build_model(name, **options).eval()
    for features in (None, "embedding"):
        scripted = torch.jit.script(detach(attach(model, features=features)))
    image = torch.rand(3, 64, 80)
    (expected,) = model([image])
    _, (found,) = scripted([image])
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


@pytest.mark.filterwarnings("ignore")
def test_an_attached_model_says_detach_first(plain_model):
    attach(plain_model)
    for model in (plain_model, copy.deepcopy(plain_model)):
        with pytest.raises(TypeError, match="detach it first"):
            torch.jit.script(model)
