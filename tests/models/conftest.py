import copy

import pytest
import torch
from torchvision.models import mobilenet_v2
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from detcenter.models import build_model
from detcenter.models.pyramid import PyramidBackbone, freeze_batch_norm

CLASSES = 4  # with background
SMALL = {
    "backbone": "mobilenet_v2",
    "image_size": 96,
    "strides": [8, 16],
    "frozen_batch_norm": True,
}
# What a test of 96 pixels needs of proposals and detections.
FEW_BOXES = {
    "box_batch_size_per_image": 16,
    "rpn_pre_nms_top_n_train": 100,
    "rpn_post_nms_top_n_train": 30,
    "rpn_post_nms_top_n_test": 10,
    "box_score_thresh": 0.0,
    "box_detections_per_img": 6,
}


def ssd():
    return build_model("ssd", CLASSES, **SMALL, anchor_scales=[[0.15, 0.25], [0.4]])


def fasterrcnn():
    anchors = [[0.15, 0.25], [0.4, 0.6]]
    return build_model("fasterrcnn", CLASSES, **SMALL, anchor_scales=anchors, **FEW_BOXES)


def pyramid():
    return PyramidBackbone(freeze_batch_norm(mobilenet_v2()), [8, 16], 32, 32, 5)


def retinanet():
    anchors = AnchorGenerator(((16, 24), (40, 60)), ((0.5, 1.0),) * 2)
    options = {"fixed_size": (96, 96), "score_thresh": 0.0, "detections_per_img": 6}
    return RetinaNet(pyramid(), CLASSES, anchor_generator=anchors, **options)


def fcos():
    anchors = AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)
    options = {"fixed_size": (96, 96), "score_thresh": 0.0, "detections_per_img": 6}
    return FCOS(pyramid(), CLASSES, anchor_generator=anchors, **options)


FAMILIES = {"ssd": ssd, "fasterrcnn": fasterrcnn, "retinanet": retinanet, "fcos": fcos}


@pytest.fixture(scope="session")
def built():
    """A small model of every family, built once; `plain_model` gives copies."""
    torch.manual_seed(0)
    return {family: build() for family, build in FAMILIES.items()}


@pytest.fixture(params=FAMILIES)
def plain_model(request, built):
    """A fresh copy of a model that nothing was ever attached to."""
    return copy.deepcopy(built[request.param]).train()


@pytest.fixture
def small_model(built):
    """The cheapest of them, for what does not depend on the family."""
    return copy.deepcopy(built["ssd"]).train()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 90, 120, generator=generator) for _ in range(2)]


@pytest.fixture
def targets():
    boxes = torch.tensor(
        [[8.0, 6.0, 60.0, 70.0], [70.0, 20.0, 110.0, 60.0], [30.0, 40.0, 50.0, 64.0]]
    )
    return [target(boxes, [1, 3, 2]), target(boxes[:1], [2])]


@pytest.fixture
def no_targets():
    return [target(torch.zeros(0, 4), [])] * 2


def target(boxes, labels):
    """With a mask and 17 keypoints a box, for the R-CNNs that want them."""
    masks = torch.zeros(len(boxes), 90, 120, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    keypoints = torch.ones(len(boxes), 17, 3)
    keypoints[:, :, :2] = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    labels = torch.tensor(labels, dtype=torch.long)
    return {"boxes": boxes, "labels": labels, "masks": masks, "keypoints": keypoints}
