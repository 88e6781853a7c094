"""How often a training step and an inference of each family wait for the device, at most."""

import copy

import pytest
import torch

from detcenter import attach, fast
from detcenter.waits import counted_waits, pretended_cuda
from tests.tiny_detectors import batch, built

IMAGES = 4
# At most, in a training step and in an inference, of a batch that is not the first: anchors and
# constants are kept. An inference waits twice, and thrice where it needs a second look. A fast
# Faster R-CNN waits once an image more, for the suppression of its proposals.
MOST = {
    ("ssd", "plain"): (42, 66),
    ("ssd", "fast"): (1, 3),
    ("ssd", "attached"): (2, 3),
    ("ssdlite", "plain"): (42, 66),
    ("ssdlite", "fast"): (1, 3),
    ("ssdlite", "attached"): (2, 3),
    ("retinanet", "plain"): (63, 56),
    ("retinanet", "fast"): (2, 3),
    ("retinanet", "attached"): (3, 3),
    ("fcos", "plain"): (49, 40),
    ("fcos", "fast"): (2, 2),
    ("fcos", "attached"): (3, 2),
    ("fasterrcnn", "plain"): (76, 44),
    ("fasterrcnn", "fast"): (8, 9),
    ("fasterrcnn", "attached"): (77, 44),
    ("fasterrcnn", "fast and attached"): (9, 9),
}


def prepared(family, way):
    """A model of torchvision: plain, with `fast`, attached, or both."""
    model = built(family)
    if "attached" in way:
        attach(model, weight=0.3)
    return fast(model) if "fast" in way else model


def waits_of(model, images, device):
    """Of a training step and of an inference."""
    model.to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-3, momentum=0.9)
    data = batch(images, device)
    for _ in range(2):
        with counted_waits() as training:
            sum(model.train()(*data).values()).backward()
            optimizer.step()
            optimizer.zero_grad()
        with counted_waits() as inference, torch.inference_mode():
            model.eval()(data[0])
    return training, inference


@pytest.mark.parametrize(("family", "way"), MOST)
def test_bounds(family, way):
    with pretended_cuda() as device:
        training, inference = waits_of(prepared(family, way), IMAGES, device)
    in_training, in_inference = MOST[family, way]
    assert training.total <= in_training, str(training)
    assert inference.total <= in_inference, str(inference)


@pytest.mark.parametrize("family", ["ssd", "retinanet", "fcos"])
def test_more_images_are_no_more_waits(family):
    for images in (2, 9):
        with pretended_cuda() as device:
            training, inference = waits_of(prepared(family, "attached"), images, device)
        assert training.total <= 3 and inference.total <= 3, f"{training}\n{inference}"


def test_of_an_ssd_of_torchvision_by_hand():
    """Of each image 9: its mean and its standard deviation as tensors, four numbers to resize its
    boxes (2 new sides and 2 old), whether there are unmatched boxes, where the positives are, and
    the coder's weights. Once 6: two constants of the anchors, two masks of the loss and both again
    in its gradient."""
    for images in (1, 3):
        with pretended_cuda() as device:
            training, _ = waits_of(built("ssd"), images, device)
        assert training.total == 9 * images + 6


@pytest.mark.gpu
@pytest.mark.parametrize(("family", "way"), MOST)
def test_a_real_device_says_the_same(family, way):
    """With the same numbers everywhere, or an R-CNN would draw others."""
    model = prepared(family, way)
    twin = copy.deepcopy(model)
    with pretended_cuda(beside_a_real_one=True) as device:
        expected = waits_of(model, IMAGES, device)
    found = waits_of(twin, IMAGES, torch.device("cuda"))
    for name, one, other in zip(("training", "inference"), found, expected, strict=True):
        assert one.total == other.total, f"{name}, real: {one}\npretended: {other}"
