"""Detectors by name, with torchvision's own arguments."""

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, cast
from unittest.mock import patch

from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_builder, get_model_weights
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detcenter.errors import nearest
from detcenter.models.custom import Detector, build_over_backbone
from detcenter.models.exact import with_exact_boxes
from detcenter.models.weights import (
    WeightsError,
    builders_load,
    downloads_explained,
    is_file,
    load_matching,
    read_weights,
    weight_set,
)

OVER_BACKBONES = ("ssd", "fasterrcnn", "retinanet", "fcos")
_BACKBONE_OF = {
    "ssd300_vgg16": "vgg16",
    "ssdlite320_mobilenet_v3_large": "mobilenet_v3_large",
    "fasterrcnn_resnet50_fpn": "resnet50",
    "fasterrcnn_resnet50_fpn_v2": "resnet50",
    "fasterrcnn_mobilenet_v3_large_fpn": "mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "mobilenet_v3_large",
    "retinanet_resnet50_fpn": "resnet50",
    "retinanet_resnet50_fpn_v2": "resnet50",
    "fcos_resnet50_fpn": "resnet50",
}
MODEL_NAMES = (*OVER_BACKBONES, *_BACKBONE_OF)
_CLASSES: dict[str, type[Any]] = {
    "ssd": SSD,
    "fasterrcnn": FasterRCNN,
    "retinanet": RetinaNet,
    "fcos": FCOS,
}
_OF_DETECTIONS = ("score_thresh", "nms_thresh", "detections_per_img")


def build_model(
    name: str,
    num_classes: int,
    *,
    weights: str | None = None,
    weights_backbone: str | None = None,
    trainable_backbone_layers: int | None = None,
    load: bool = True,
    **options: Any,
) -> nn.Module:
    """Build a detector.

    Args:
        name: one of torchvision's builders of box detectors, ``fasterrcnn_resnet50_fpn`` say, or
            ``ssd``, ``fasterrcnn``, ``retinanet`` or ``fcos``, over any torchvision classifier,
            with the options of :func:`build_over_backbone`.
        num_classes: with background. It may differ from that of ``weights``; the layers that
            do not fit then start new.
        weights: of the whole detector: the name of a torchvision weight set, or a file.
        weights_backbone: of the backbone alone, likewise; not used where ``weights`` is given.
        trainable_backbone_layers: how many stages are trained, counted from the end; None is
            torchvision's default.
        load: False builds the same architecture and loads nothing, for a checkpoint to fill.
        options: passed on to the builder; ``score_thresh``, ``nms_thresh`` and
            ``detections_per_img`` by these names for all.

    Raises:
        WeightsError: for weights that cannot be had or do not fit.
        ValueError: for an unknown name or option, or options that contradict each other.
    """
    if name not in MODEL_NAMES:
        raise ValueError(f"no model {name!r}; {nearest(name, MODEL_NAMES)}")
    options |= {"trainable_backbone_layers": trainable_backbone_layers}
    _check_options(name, options)
    if name.startswith("fasterrcnn"):
        options = {f"box_{k}" if k in _OF_DETECTIONS else k: v for k, v in options.items()}
    if name in OVER_BACKBONES:
        model = _over_backbone(name, num_classes, weights, weights_backbone, load, options)
    elif weights is not None:
        model = _with_weights(name, num_classes, weights, load, options)
    else:
        model = _with_backbone_weights(name, num_classes, weights_backbone, load, options)
    return with_exact_boxes(model)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """torchvision takes any further argument, and leaves unknown ones without effect."""
    kind = next(kind for prefix, kind in _CLASSES.items() if name.startswith(prefix))
    builder = build_over_backbone if name in OVER_BACKBONES else get_model_builder(name)
    makers = (builder, kind.__init__, GeneralizedRCNNTransform.__init__)
    parameters = [p for maker in makers for p in inspect.signature(maker).parameters.values()]
    known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"]
    known += _OF_DETECTIONS
    for option in options:
        if option not in known:
            nearest = get_close_matches(option, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"{name} has no option {option!r}; the nearest is {nearest!r}")


def _over_backbone(
    name: str,
    num_classes: int,
    weights: str | None,
    weights_backbone: str | None,
    load: bool,
    options: dict[str, Any],
) -> nn.Module:
    kind = cast(Detector, name)
    if weights is None:
        options |= {"weights_backbone": weights_backbone, "load": load}
        return build_over_backbone(kind, num_classes, **options)
    if not is_file(weights):
        raise WeightsError(f"weights {weights!r}: for the model {name!r} this is a file or null")
    model = build_over_backbone(kind, num_classes, load=False, **options)
    if load:
        load_matching(model, read_weights(weights), weights)
    return model


def _with_weights(
    name: str, num_classes: int, weights: str, load: bool, options: dict[str, Any]
) -> nn.Module:
    """The architecture that goes with torchvision's detection weights, for any class count."""
    chosen = _set_of(name, "DEFAULT" if is_file(weights) else weights)
    with builders_load(None), patch.dict(chosen.meta, categories=[""] * num_classes):
        model = get_model_builder(name)(weights=chosen, num_classes=num_classes, **options)
    if load:
        load_matching(model, _full_state(name, weights, chosen), weights)
    return cast(nn.Module, model)


def _full_state(name: str, weights: str, chosen: WeightsEnum) -> dict[str, Tensor]:
    if is_file(weights):
        return read_weights(weights)
    with downloads_explained(name, chosen, "weights"):
        return dict(chosen.get_state_dict(progress=True, check_hash=True))


def _with_backbone_weights(
    name: str, num_classes: int, weights: str | None, load: bool, options: dict[str, Any]
) -> nn.Module:
    def build(chosen: WeightsEnum | None) -> nn.Module:
        builder = get_model_builder(name)
        return cast(
            nn.Module,
            builder(weights=None, weights_backbone=chosen, num_classes=num_classes, **options),
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
    with downloads_explained(_BACKBONE_OF[name], chosen, "weights_backbone"):
        return build(chosen)


def _set_of(model_name: str, weights: str) -> WeightsEnum:
    return weight_set(weights, get_model_weights(model_name), model_name)
