"""One detector of each of torchvision's families over a backbone of a few convolutions.

Their code is torchvision's from the transform to the detections; a step takes milliseconds.
"""

import re
from collections import OrderedDict

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign

CLASSES = 4  # with background
SIZE = 64
BOXES = torch.tensor([[4.0, 4.0, 28.0, 30.0], [34.0, 10.0, 60.0, 40.0], [10.0, 34.0, 26.0, 58.0]])


class Backbone(nn.Module):
    """Maps of strides 8 and 16, 32 channels each; ``stages`` are what can be checkpointed."""

    out_channels = 32

    def __init__(self, norm=nn.Identity):
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(3, 16, 4, 4), norm(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()
        )
        self.coarse = nn.Sequential(nn.Conv2d(32, 32, 3, 2, 1), norm(32), nn.ReLU())

    def forward(self, images):
        fine = self.fine(images)
        return OrderedDict(fine=fine, coarse=self.coarse(fine))


class Flat(nn.Module):
    """A detector as tracing wants it: one image in, a tuple out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        (found,) = self.model([image])
        return found["boxes"], found["scores"], found["labels"]


def ssd(classes=CLASSES, **options):
    boxes = DefaultBoxGenerator([[2], [2]], scales=[0.3, 0.5, 0.7])
    head = SSDHead([32, 32], boxes.num_anchors_per_location(), classes)
    return SSD(Backbone(**options), boxes, (SIZE, SIZE), classes, head=head, score_thresh=0.0)


def ssdlite(classes=CLASSES, **options):
    boxes = DefaultBoxGenerator([[2], [2]], scales=[0.3, 0.5, 0.7])
    head = SSDLiteHead([32, 32], boxes.num_anchors_per_location(), classes, nn.BatchNorm2d)
    return SSD(Backbone(**options), boxes, (SIZE, SIZE), classes, head=head, score_thresh=0.0)


def retinanet(classes=CLASSES, **options):
    anchors = AnchorGenerator(((16, 24), (32, 48)), ((0.5, 1.0, 2.0),) * 2)
    return RetinaNet(
        Backbone(**options),
        classes,
        SIZE,
        SIZE,
        anchor_generator=anchors,
        score_thresh=0.0,
    )


def fcos(classes=CLASSES, **options):
    anchors = AnchorGenerator(((8,), (16,)), ((1.0,),) * 2)
    return FCOS(
        Backbone(**options),
        classes,
        SIZE,
        SIZE,
        anchor_generator=anchors,
        score_thresh=0.0,
    )


def fasterrcnn(classes=CLASSES, **options):
    return FasterRCNN(
        Backbone(**options),
        None,
        SIZE,
        SIZE,
        rpn_anchor_generator=AnchorGenerator(((16, 24), (32, 48)), ((0.5, 1.0, 2.0),) * 2),
        box_roi_pool=MultiScaleRoIAlign(["fine", "coarse"], 3, 2, canonical_scale=32),
        box_head=TwoMLPHead(32 * 3 * 3, 32),
        box_predictor=FastRCNNPredictor(32, classes),
        box_score_thresh=0.0,
    )


BUILDERS = {
    "ssd": ssd,
    "ssdlite": ssdlite,
    "retinanet": retinanet,
    "fcos": fcos,
    "fasterrcnn": fasterrcnn,
}


def built(family, **options):
    """The same weights every time, of which scores are not nearly equal, as new ones' are."""
    torch.manual_seed(3)
    model = BUILDERS[family](**options).train()
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and re.search(r"cls|classification_head|box_predictor", name):
            nn.init.normal_(parameter, std=(4 / parameter[0].numel()) ** 0.5)
    return model


def batch(images, device="cpu", objects=3):
    """Images of different sizes, with up to ``objects`` boxes each; the second has none."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(64, 64), (56, 60), (64, 48)]
    made = [torch.rand(3, *sizes[n % 3], generator=generator) for n in range(images)]
    targets = []
    for n in range(images):
        few = BOXES[: 0 if n == 1 else 1 + n % objects]
        labels = 1 + torch.arange(n, n + len(few)) % (CLASSES - 1)
        targets.append({"boxes": few.to(device), "labels": labels.to(device)})
    return [image.to(device) for image in made], targets
