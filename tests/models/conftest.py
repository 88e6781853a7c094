import copy
from contextlib import contextmanager
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, vgg
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou
from torchvision.ops.misc import FrozenBatchNorm2d

from detcenter.models import build_model, family_of
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
# VGG16's layers, of which SSD300 wants the widths of the last in stage 4 and 5.
NARROW_VGG = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 512, "M", 64, 64, 512, "M"]
FEW_DETECTIONS = {"out_channels": 32, "score_thresh": 0.0, "detections_per_img": 6}


def ssd():
    return build_model("ssd", CLASSES, **SMALL, anchor_scales=[[0.15, 0.25], [0.4]])


def fasterrcnn():
    anchors = [[0.15, 0.25], [0.4, 0.6]]
    return build_model("fasterrcnn", CLASSES, **SMALL, anchor_scales=anchors, **FEW_BOXES)


def pyramid():
    return PyramidBackbone(freeze_batch_norm(mobilenet_v2()), [8, 16], 32, 32, 5)


def retinanet():
    anchors = {"anchor_scales": [[0.17, 0.25], [0.42, 0.62]], "aspect_ratios": [1.0, 2.0]}
    return build_model("retinanet", CLASSES, **SMALL, **anchors, **FEW_DETECTIONS)


def fcos():
    return build_model("fcos", CLASSES, **SMALL, **FEW_DETECTIONS)


FAMILIES = {"ssd": ssd, "fasterrcnn": fasterrcnn, "retinanet": retinanet, "fcos": fcos}


class NarrowLinear(nn.Linear):
    def __init__(self, width, outputs):
        super().__init__(min(width, 8), min(outputs, 8))


@contextmanager
def narrow_vgg():
    """VGG16 has 138 million parameters, most of them in the classifier that no detector keeps."""
    layers = SimpleNamespace(**vars(nn) | {"Linear": NarrowLinear})
    with patch.dict(vgg.cfgs, D=NARROW_VGG), patch.object(vgg, "nn", layers):
        yield


def own(model):
    """What `attach` calls the detector's own vectors."""
    return family_of(model).source


def with_statistics(model):
    """Of batch norm, as pretrained weights have them: else features vanish on their way (1e-6)."""

    def follow(norm, inputs):
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3)))

    kinds = FrozenBatchNorm2d, nn.BatchNorm2d
    norms = [module for module in model.modules() if isinstance(module, kinds)]
    hooks = [norm.register_forward_pre_hook(follow) for norm in norms]
    if hooks:
        with torch.no_grad():
            model.eval().backbone(torch.randn(4, 3, 96, 96))
    for hook in hooks:
        hook.remove()
    return model


@pytest.fixture(scope="session")
def built():
    """A small model of every family, built once; `plain_model` gives copies."""
    torch.manual_seed(0)
    return {family: with_statistics(build()) for family, build in FAMILIES.items()}


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


class Recorder(nn.Module):
    """A loss that keeps what it was called with; it is not called for a level without positives."""

    features = torch.zeros(0, 0)
    labels = torch.zeros(0, dtype=torch.long)

    def forward(self, features, labels):
        self.features, self.labels = features, labels
        return features.square().sum() / max(1, len(labels))


class Positive(NamedTuple):
    vector: Tensor
    label: int
    object: int
    iou: float


def positives_by_loop(plain, images, targets):
    """What torchvision matched in one training step, level by level, one box at a time.

    The R-CNNs draw their proposals by random numbers: the seed is the caller's.
    """
    if isinstance(plain, FasterRCNN):
        return [sampled_proposals(plain, images, targets)]
    maps, targets, anchors, matched_idxs = matching(plain, images, targets)
    found = []
    start = 0
    for x, per_cell in zip(maps, plain.anchor_generator.num_anchors_per_location(), strict=True):
        height, width = x.shape[-2:]
        level = []
        for image in range(len(targets)):
            for row in range(height):
                for column in range(width):
                    for k in range(per_cell):
                        anchor = start + (row * width + column) * per_cell + k
                        if (box := int(matched_idxs[image][anchor])) >= 0:
                            vector = x[image, :, row, column]
                            pair = anchors[image][anchor], image, box
                            level.append(positive(vector, *pair, targets))
        found.append(level)
        start += height * width * per_cell
    return found


def matching(plain, images, targets):
    """Maps, scaled targets, anchors and matched_idxs as torchvision hands them to its losses."""
    maps = []
    hook = plain.backbone.register_forward_hook(lambda *args: maps.extend(args[2].values()))
    host = plain if isinstance(plain, SSD) else plain.head
    with patch.object(host, "compute_loss", return_value={}) as losses:
        plain(images, targets)
    hook.remove()
    targets, _, anchors, matched_idxs = losses.call_args.args
    return maps, targets, anchors, matched_idxs


def sampled_proposals(plain, images, targets):
    read, drawn = [], []
    heads = plain.roi_heads
    select = heads.select_training_samples

    def keep(proposals, targets):
        drawn.append((*select(proposals, targets), targets))
        return drawn[0][:4]

    hook = heads.box_predictor.register_forward_pre_hook(lambda *args: read.append(args[1][0]))
    with patch.object(heads, "select_training_samples", keep):
        plain(images, targets)
    hook.remove()
    proposals, matched_idxs, labels, _, targets = drawn[0]
    found = []
    vectors = iter(read[0])
    for image in range(len(targets)):
        for proposal, box, label in zip(
            proposals[image], matched_idxs[image], labels[image], strict=True
        ):
            vector = next(vectors)
            if label > 0:
                found.append(positive(vector, proposal, image, int(box), targets))
    return found


def positive(vector, anchor, image, box, targets):
    earlier = sum(len(target["boxes"]) for target in targets[:image])
    iou = box_iou(anchor[None], targets[image]["boxes"][box][None]).item()
    return Positive(vector, int(targets[image]["labels"][box]), earlier + box, iou)
