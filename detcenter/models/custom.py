"""Detectors over any image classifier of torchvision."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.ops import MultiScaleRoIAlign

from detcenter.adoption import adopt
from detcenter.models.exact import Exact
from detcenter.models.pyramid import PyramidBackbone, freeze_batch_norm
from detcenter.models.weights import (
    downloads_explained,
    is_file,
    load_matching,
    read_weights,
    weight_set,
)


def build_over_backbone(
    detector: Literal["ssd", "fasterrcnn"],
    num_classes: int,
    *,
    backbone: str,
    image_size: int = 320,
    strides: Sequence[int] = (8, 16, 32),
    anchor_scales: Sequence[Sequence[float]] = ((0.07, 0.13), (0.2, 0.35), (0.5, 0.8)),
    aspect_ratios: Sequence[float] = (1.0,),
    top_stride: int = 32,
    out_channels: int = 128,
    weights_backbone: str | None = None,
    trainable_backbone_layers: int | None = None,
    frozen_batch_norm: bool = False,
    load: bool = True,
    **options: Any,
) -> SSD | FasterRCNN:
    """An SSD or a Faster R-CNN over a torchvision classifier.

    Args:
        detector: which of them.
        num_classes: with background.
        backbone: name of a torchvision classification model, ``mobilenet_v2`` say.
        image_size: images are resized to this many pixels, square.
        strides: of the feature maps that boxes are predicted on.
        anchor_scales: for each stride the sides of its anchors, as parts of the image.
        aspect_ratios: width by height; every scale has an anchor of each.
        top_stride, out_channels: see :class:`PyramidBackbone`.
        weights_backbone: name of a torchvision weight set, or a file.
        trainable_backbone_layers: 0..5 stages, counted from the end; None is 5, all.
        frozen_batch_norm: keep statistics, scale and shift of the backbone's batch norm as the
            weights have them, as one does with pretrained weights and small batches.
        load: False loads no weights.
        options: passed on to torchvision's ``SSD`` or ``FasterRCNN``.
    """
    _check_anchors(anchor_scales, aspect_ratios, strides)
    if image_size < 1 or out_channels < 1:
        raise ValueError(
            f"image_size and out_channels are at least 1: {image_size=} {out_channels=}"
        )
    if backbone not in list_models(module=torchvision.models):
        raise ValueError(f"backbone {backbone!r} is no classification model of torchvision")
    classifier = _classifier(backbone, weights_backbone if load else None)
    if frozen_batch_norm:
        freeze_batch_norm(classifier)
    trainable = 5 if trainable_backbone_layers is None else trainable_backbone_layers
    pyramid = PyramidBackbone(classifier, strides, top_stride, out_channels, trainable)
    make = _ssd if detector == "ssd" else _fasterrcnn
    return make(pyramid, num_classes, image_size, anchor_scales, aspect_ratios, options)


def _ssd(
    pyramid: PyramidBackbone,
    num_classes: int,
    image_size: int,
    scales: Sequence[Sequence[float]],
    ratios: Sequence[float],
    options: dict[str, Any],
) -> SSD:
    boxes = ScaledBoxGenerator(scales, ratios)
    adopt(boxes, Exact)
    widths = [pyramid.out_channels] * len(pyramid.strides)
    head = SSDHead(widths, boxes.num_anchors_per_location(), num_classes)
    return SSD(pyramid, boxes, (image_size, image_size), num_classes, head=head, **options)


def _fasterrcnn(
    pyramid: PyramidBackbone,
    num_classes: int,
    image_size: int,
    scales: Sequence[Sequence[float]],
    ratios: Sequence[float],
    options: dict[str, Any],
) -> FasterRCNN:
    strides = pyramid.strides
    if len({len(level) for level in scales}) > 1:
        raise ValueError(
            "the region proposal network has one head for all strides: anchor_scales needs equally "
            f"many for each, not {[list(level) for level in scales]}"
        )
    if strides != [strides[0] * 2**k for k in range(len(strides))]:
        raise ValueError(f"boxes are pooled from maps that halve: no stride left out of {strides}")
    anchors = AnchorGenerator(
        tuple(tuple(scale * image_size for scale in level) for level in scales),
        (tuple(1 / ratio for ratio in ratios),) * len(strides),  # height by width there
    )
    return FasterRCNN(
        pyramid,
        num_classes,
        rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign([str(stride) for stride in strides], 7, sampling_ratio=2),
        fixed_size=(image_size, image_size),
        **options,
    )


class ScaledBoxGenerator(DefaultBoxGenerator):
    """Default boxes of stated scales and aspect ratios at the center of every cell.

    torchvision's generator always adds a second, larger square to every cell, which is waste where
    objects have one size.

    Args:
        scales: for each level the sides of its boxes, as parts of the image's side.
        aspect_ratios: width by height, the same for all levels and scales.
    """

    def __init__(self, scales: Sequence[Sequence[float]], aspect_ratios: Sequence[float]) -> None:
        super().__init__([list(aspect_ratios)] * len(scales), scales=[s[0] for s in scales] + [1.0])
        self._wh_pairs = [
            torch.tensor([(s * r**0.5, s / r**0.5) for s in level for r in aspect_ratios])
            for level in scales
        ]

    def num_anchors_per_location(self) -> list[int]:
        return [len(pairs) for pairs in self._wh_pairs]


def _check_anchors(
    scales: Sequence[Sequence[float]], ratios: Sequence[float], strides: Sequence[int]
) -> None:
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
    with downloads_explained(name):
        return cast(
            nn.Module, get_model(name, weights=weight_set(weights, get_model_weights(name), name))
        )
