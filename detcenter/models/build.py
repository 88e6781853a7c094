"""Detectors by name, with torchvision's own arguments."""

from collections.abc import Sequence
from typing import Any, cast
from unittest.mock import patch

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import (
    WeightsEnum,
    get_model,
    get_model_builder,
    get_model_weights,
    list_models,
)
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from detcenter.models.pyramid import PyramidBackbone, freeze_batch_norm
from detcenter.models.weights import (
    WeightsError,
    builders_load,
    downloads_explained,
    is_file,
    load_matching,
    read_weights,
    weight_set,
)

MODEL_NAMES = ("ssd", "ssd300_vgg16", "ssdlite320_mobilenet_v3_large")
_BACKBONE_OF = {"ssd300_vgg16": "vgg16", "ssdlite320_mobilenet_v3_large": "mobilenet_v3_large"}


def build_model(
    name: str,
    num_classes: int,
    *,
    weights: str | None = None,
    weights_backbone: str | None = None,
    trainable_backbone_layers: int | None = None,
    load: bool = True,
    **options: Any,
) -> SSD:
    """Build a detector.

    Args:
        name: ``ssd300_vgg16`` or ``ssdlite320_mobilenet_v3_large``, by torchvision's builders, or
            ``ssd``, over any torchvision classifier, with the options of :func:`build_ssd`.
        num_classes: with background. It may differ from that of ``weights``; the layers that
            do not fit then start new.
        weights: of the whole detector: the name of a torchvision weight set, or a file.
        weights_backbone: of the backbone alone, likewise; not used where ``weights`` is given.
        trainable_backbone_layers: how many stages are trained, counted from the end; None is
            torchvision's default.
        load: False builds the same architecture and loads nothing, for a checkpoint to fill.
        options: passed on to the builder.

    Raises:
        WeightsError: for weights that cannot be had or do not fit.
        ValueError: for an unknown name or options that contradict each other.
    """
    if name not in MODEL_NAMES:
        raise ValueError(f"model name {name!r} is none of {', '.join(MODEL_NAMES)}")
    options |= {"trainable_backbone_layers": trainable_backbone_layers}
    if name == "ssd":
        return _ssd_with_weights(num_classes, weights, weights_backbone, load, options)
    if weights is not None:
        model = _with_weights(name, num_classes, weights, load, options)
    else:
        model = _with_backbone_weights(name, num_classes, weights_backbone, load, options)
    model.anchor_generator.__class__ = ExactBoxGenerator
    return model


def build_ssd(
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
) -> SSD:
    """An SSD over a torchvision classifier.

    Args:
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
        options: passed on to ``torchvision.models.detection.ssd.SSD``.
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
    anchors = ScaledBoxGenerator(anchor_scales, aspect_ratios)
    return SSD(pyramid, anchors, (image_size, image_size), num_classes, **options)


class ExactBoxGenerator(DefaultBoxGenerator):
    """Default boxes in float32 whatever the features' dtype.

    torchvision makes them in the dtype of the feature maps; in bfloat16, as under autocast, a
    coordinate of 300 pixels is then rounded to a multiple of two.
    """

    def _grid_default_boxes(
        self,
        grid_sizes: list[list[int]],
        image_size: list[int],
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        return super()._grid_default_boxes(grid_sizes, image_size, torch.float32)


class ScaledBoxGenerator(ExactBoxGenerator):
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
        return cast(nn.Module, get_model(name, weights=_set_of(name, weights)))


def _ssd_with_weights(
    num_classes: int,
    weights: str | None,
    weights_backbone: str | None,
    load: bool,
    options: dict[str, Any],
) -> SSD:
    if weights is None:
        return build_ssd(num_classes, weights_backbone=weights_backbone, load=load, **options)
    if not is_file(weights):
        raise WeightsError(f"weights {weights!r}: for the model 'ssd' this is a file or null")
    model = build_ssd(num_classes, load=False, **options)
    if load:
        load_matching(model, read_weights(weights), weights)
    return model


def _with_weights(
    name: str, num_classes: int, weights: str, load: bool, options: dict[str, Any]
) -> SSD:
    """The architecture that goes with torchvision's detection weights, for any class count."""
    chosen = _set_of(name, "DEFAULT" if is_file(weights) else weights)
    with builders_load(None), patch.dict(chosen.meta, categories=[""] * num_classes):
        model = get_model_builder(name)(weights=chosen, num_classes=num_classes, **options)
    if load:
        load_matching(model, _full_state(name, weights, chosen), weights)
    return cast(SSD, model)


def _full_state(name: str, weights: str, chosen: WeightsEnum) -> dict[str, Tensor]:
    if is_file(weights):
        return read_weights(weights)
    with downloads_explained(name):
        return dict(chosen.get_state_dict(progress=True, check_hash=True))


def _with_backbone_weights(
    name: str, num_classes: int, weights: str | None, load: bool, options: dict[str, Any]
) -> SSD:
    def build(chosen: WeightsEnum | None) -> SSD:
        builder = get_model_builder(name)
        return cast(
            SSD, builder(weights=None, weights_backbone=chosen, num_classes=num_classes, **options)
        )

    if weights is None:
        return build(None)
    chosen = _set_of(_BACKBONE_OF[name], "DEFAULT" if is_file(weights) else weights)
    if name == "ssd300_vgg16" and weights == "DEFAULT":
        # The features of Caffe's VGG16, which SSD's mean and scale of the images belong to.
        chosen = get_model_weights("vgg16")["IMAGENET1K_FEATURES"]
    if not load:
        with builders_load(None):
            return build(chosen)
    if is_file(weights):
        try:
            with builders_load(read_weights(weights)):
                return build(chosen)
        except RuntimeError as error:
            reason = str(error).splitlines()[0].rstrip(":")
            raise WeightsError(
                f"{weights}: not weights of the backbone of {name} ({reason})"
            ) from None
    with downloads_explained(name):
        return build(chosen)


def _set_of(model_name: str, weights: str) -> WeightsEnum:
    return weight_set(weights, get_model_weights(model_name), model_name)
