"""Detectors over any image classifier of torchvision."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.ops import MultiScaleRoIAlign

from detcenter.adoption import adopt
from detcenter.errors import nearest
from detcenter.models.exact import Exact
from detcenter.models.pyramid import PyramidBackbone, freeze_batch_norm
from detcenter.models.weights import (
    downloads_explained,
    is_file,
    load_matching,
    read_weights,
    weight_set,
)

Detector = Literal["ssd", "fasterrcnn", "retinanet", "fcos"]
Scales = Sequence[Sequence[float]]
Size = tuple[int, int]  # height and width in pixels
ANCHOR_SCALES: Scales = ((0.07, 0.13), (0.2, 0.35), (0.5, 0.8))
ASPECT_RATIOS: Sequence[float] = (1.0,)
_GROUPS = 32  # of channels that torchvision's towers normalise together


def build_over_backbone(
    detector: Detector,
    num_classes: int,
    *,
    backbone: str,
    image_size: int = 320,
    strides: Sequence[int] = (8, 16, 32),
    anchor_scales: Scales | None = None,
    aspect_ratios: Sequence[float] | None = None,
    top_stride: int = 32,
    out_channels: int = 128,
    weights_backbone: str | None = None,
    trainable_backbone_layers: int | None = None,
    frozen_batch_norm: bool = False,
    load: bool = True,
    **options: Any,
) -> SSD | FasterRCNN | RetinaNet | FCOS:
    """An SSD, Faster R-CNN, RetinaNet or FCOS over a torchvision classifier.

    RetinaNet's towers have group norm, as in torchvision's ``retinanet_resnet50_fpn_v2``: without,
    a tower that starts at random lets hardly anything through. The towers of RetinaNet and FCOS
    start as He et al. (2015) have it, not with torchvision's standard deviation of 0.01: behind a
    group norm the scale of weights sets nothing but how far a step of AdamW turns them, which
    then is too far.

    Args:
        detector: which of them.
        num_classes: with background.
        backbone: name of a torchvision classification model, ``mobilenet_v2`` say.
        image_size: images are resized to this many pixels, square.
        strides: of the feature maps that boxes are predicted on. FCOS puts an object on a map by
            the distance from a point to the object's farthest side: 4 to 8 times the stride, on
            the finest map anything less, on the coarsest anything more.
        anchor_scales: for each stride the sides of its anchors, as parts of the image; None is
            ``ANCHOR_SCALES``. Not for FCOS, like ``aspect_ratios``.
        aspect_ratios: width by height; every scale has an anchor of each. None is 1.
        top_stride, out_channels: see :class:`PyramidBackbone`.
        weights_backbone: name of a torchvision weight set, or a file.
        trainable_backbone_layers: 0..5 stages, counted from the end; None is 5, all.
        frozen_batch_norm: keep statistics, scale and shift of the backbone's batch norm as the
            weights have them, as one does with pretrained weights and small batches.
        load: False loads no weights.
        options: passed on to torchvision's ``SSD``, ``FasterRCNN``, ``RetinaNet`` or ``FCOS``.
    """
    scales = ANCHOR_SCALES if anchor_scales is None else anchor_scales
    ratios = ASPECT_RATIOS if aspect_ratios is None else aspect_ratios
    if detector == "fcos":
        _check_points(anchor_scales, aspect_ratios, strides)
    else:
        _check_anchors(scales, ratios, strides)
    if image_size < 1 or out_channels < 1:
        raise ValueError(
            f"image_size and out_channels are at least 1: {image_size=} {out_channels=}"
        )
    if detector in ("retinanet", "fcos") and out_channels % _GROUPS:
        raise ValueError(
            f"out_channels is a multiple of {_GROUPS} for {detector}, whose towers normalise so "
            f"many channels together, not {out_channels}"
        )
    known = list_models(module=torchvision.models)
    if backbone not in known:
        raise ValueError(
            f"backbone {backbone!r} is no classification model of torchvision; "
            f"{nearest(backbone, known)}"
        )
    classifier = _classifier(backbone, weights_backbone if load else None)
    if frozen_batch_norm:
        freeze_batch_norm(classifier)
    trainable = 5 if trainable_backbone_layers is None else trainable_backbone_layers
    pyramid = PyramidBackbone(classifier, strides, top_stride, out_channels, trainable)
    boxes = _box_generator(detector, pyramid.strides, image_size, scales, ratios)
    make = {"ssd": _ssd, "fasterrcnn": _fasterrcnn, "retinanet": _retinanet, "fcos": _fcos}[
        detector
    ]
    return make(pyramid, boxes, num_classes, (image_size, image_size), options)


def _ssd(
    pyramid: PyramidBackbone, boxes: Any, num_classes: int, size: Size, options: dict[str, Any]
) -> SSD:
    widths = [pyramid.out_channels] * len(pyramid.strides)
    head = SSDHead(widths, boxes.num_anchors_per_location(), num_classes)
    return SSD(pyramid, boxes, size, num_classes, head=head, **options)


def _fasterrcnn(
    pyramid: PyramidBackbone, boxes: Any, num_classes: int, size: Size, options: dict[str, Any]
) -> FasterRCNN:
    strides = pyramid.strides
    if strides != [strides[0] * 2**k for k in range(len(strides))]:
        raise ValueError(f"boxes are pooled from maps that halve: no stride left out of {strides}")
    pool = MultiScaleRoIAlign([str(stride) for stride in strides], 7, sampling_ratio=2)
    own = {"rpn_anchor_generator": boxes, "box_roi_pool": pool, "fixed_size": size}
    return FasterRCNN(pyramid, num_classes, **own, **options)


def _retinanet(
    pyramid: PyramidBackbone, boxes: Any, num_classes: int, size: Size, options: dict[str, Any]
) -> RetinaNet:
    per_cell, norm = boxes.num_anchors_per_location()[0], partial(nn.GroupNorm, _GROUPS)
    head = RetinaNetHead(pyramid.out_channels, per_cell, num_classes, norm)
    own = {"anchor_generator": boxes, "head": head, "fixed_size": size}
    model = RetinaNet(pyramid, num_classes, **own, **options)
    _start_towers(model.head)
    return model


def _fcos(
    pyramid: PyramidBackbone, boxes: Any, num_classes: int, size: Size, options: dict[str, Any]
) -> FCOS:
    own = {"anchor_generator": boxes, "fixed_size": size}
    model = FCOS(pyramid, num_classes, **own, **options)
    _start_towers(model.head)
    return model


def _start_towers(head: Any) -> None:
    for branch in (head.classification_head, head.regression_head):
        for layer in branch.conv.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def _box_generator(
    detector: Detector,
    strides: Sequence[int],
    image_size: int,
    scales: Scales,
    ratios: Sequence[float],
) -> nn.Module:
    """Of the boxes that are matched with objects; of FCOS the squares around its points."""
    if detector == "ssd":
        boxes = ScaledBoxGenerator(scales, ratios)
        adopt(boxes, Exact)
        return boxes
    if detector == "fcos":
        # The side of a point's square is what torchvision takes the stride from.
        return AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
    if len({len(level) for level in scales}) > 1:
        owner = "RetinaNet" if detector == "retinanet" else "region proposal network"
        raise ValueError(
            f"the {owner} has one head for all strides: anchor_scales needs equally many for each, "
            f"not {[list(level) for level in scales]}"
        )
    return AnchorGenerator(
        tuple(tuple(scale * image_size for scale in level) for level in scales),
        (tuple(1 / ratio for ratio in ratios),) * len(scales),  # height by width there
    )


class ScaledBoxGenerator(DefaultBoxGenerator):
    """Default boxes of stated scales and aspect ratios at the center of every cell.

    torchvision's generator always adds a second, larger square to every cell, which is waste where
    objects have one size.

    Args:
        scales: for each level the sides of its boxes, as parts of the image's side.
        aspect_ratios: width by height, the same for all levels and scales.
    """

    def __init__(self, scales: Scales, aspect_ratios: Sequence[float]) -> None:
        super().__init__([list(aspect_ratios)] * len(scales), scales=[s[0] for s in scales] + [1.0])
        self._wh_pairs = [
            torch.tensor([(s * r**0.5, s / r**0.5) for s in level for r in aspect_ratios])
            for level in scales
        ]

    def num_anchors_per_location(self) -> list[int]:
        return [len(pairs) for pairs in self._wh_pairs]


def _check_points(
    scales: Scales | None, ratios: Sequence[float] | None, strides: Sequence[int]
) -> None:
    for name, given in (("anchor_scales", scales), ("aspect_ratios", ratios)):
        if given is not None:
            raise ValueError(
                f"{name} is not for fcos, which predicts from points; what lies on which map "
                "follows from the strides"
            )
    if list(strides) != [strides[0] * 2**k for k in range(len(strides))]:
        raise ValueError(
            "objects of sizes that belong to a stride left out would be on no map of fcos: strides "
            f"double, not {list(strides)}"
        )


def _check_anchors(scales: Scales, ratios: Sequence[float], strides: Sequence[int]) -> None:
    if len(scales) != len(strides):
        raise ValueError(f"anchor_scales has {len(scales)} entries for {len(strides)} strides")
    if not all(level and all(0 < scale <= 1 for scale in level) for level in scales):
        raise ValueError(
            f"anchor_scales are parts of the image, above 0 and at most 1, one or more for each "
            f"stride, not {[list(level) for level in scales]}"
        )
    if not ratios or min(ratios) <= 0:
        raise ValueError(f"aspect_ratios are one or more numbers above 0, not {list(ratios)}")


def _classifier(name: str, weights: str | None) -> nn.Module:
    if weights is None:
        return cast(nn.Module, get_model(name, weights=None))
    if is_file(weights):
        model = cast(nn.Module, get_model(name, weights=None))
        load_matching(model, read_weights(weights), weights)
        return model
    chosen = weight_set(weights, get_model_weights(name), name)
    with downloads_explained(name, chosen, "weights_backbone"):
        return cast(nn.Module, get_model(name, weights=chosen))
