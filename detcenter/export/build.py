"""The graph of a detector, ready to be exported, or one line that says why there is none."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detcenter.adoption import keeps, own_class
from detcenter.batched import fast
from detcenter.batched.detections import (
    FCOSDetections,
    RetinaNetDetections,
    RoIDetections,
    SSDDetections,
)
from detcenter.batched.proposals import Proposals
from detcenter.export.dense import DenseEye
from detcenter.export.graph import DetectorGraph, Size
from detcenter.export.rcnn import RCNNEye
from detcenter.export.suppression import Suppression, suppressed

_TRANSFORM = ("forward", "normalize", "resize", "batch_images", "max_by_axis", "postprocess")
_DETECTIONS = {SSD: SSDDetections, RetinaNet: RetinaNetDetections, FCOS: FCOSDetections}


class Made(NamedTuple):
    graph: DetectorGraph
    inputs: dict[str, Tensor]
    """two images, and their sizes where it takes them"""
    contract: dict[str, Any]
    """what a program has to know to use it, see :func:`detector_graph`"""


def detector_graph(
    model: nn.Module,
    size: Size | None = None,
    nms: bool = True,
    features: bool = False,
    suppress: Suppression = suppressed,
) -> Made:
    """A copy of ``model`` as one graph for images of one size, in float32 on the CPU.

    Args:
        model: one of torchvision's box detectors, in any mode; its vote and its enrolled classes go
            along.
        size: height and width of the images; None is what the model brings all images to, or,
            where it keeps their shape, a square that all of them fit into.
        nms: whether boxes are dropped for better ones of their class, and for low scores.
        features: whether each detection's features are given, and, of a model with an
            ``unknown_scorer``, its unknown score.
        suppress: how boxes are dropped.

    Returns:
        The graph, inputs for it, and its contract: ``size``; ``sides``, the shorter and the longer
        side that images are brought within, or None if each is brought to ``size``; ``classes``,
        the names from label 1, if the model has them; ``enrolled``, how many of these, the last
        ones, it was not trained on; ``unknown_threshold``, above which an unknown score says that
        a box is of none of the others.

    Raises:
        TypeError: for what is no detector of torchvision's, or does things in a way of its own.
        ValueError: for options that do not fit the model.
    """
    _check(model, nms, features)
    detector: Any = fast(copy.deepcopy(model)).eval().requires_grad_(False).to("cpu", torch.float32)
    _check_own(detector)
    fixed = detector.transform.fixed_size
    size = _size(detector.transform, size)
    every = detector.transform.size_divisible
    padded = size[0] + -size[0] % every, size[1] + -size[1] % every
    with torch.no_grad():
        if isinstance(detector, GeneralizedRCNN):
            eye: nn.Module = RCNNEye(detector, size, padded, suppress)
        else:
            eye = DenseEye(detector, padded)
    scorer = getattr(detector, "unknown_scorer", None) if features else None
    dropping = suppress if nms else None
    graph = DetectorGraph(detector, eye, size, not fixed, dropping, features, scorer).eval()
    inputs = {"images": torch.zeros(2, 3, *size, dtype=torch.uint8)}
    if not fixed:
        inputs["sizes"] = torch.tensor([size, size])
    sides = None if fixed else (detector.transform.min_size[-1], detector.transform.max_size)
    contract = {
        "size": size,
        "sides": sides,
        "classes": getattr(model, "classes", None),
        "enrolled": len(detector.box_classes.names) if hasattr(detector, "box_classes") else 0,
        "unknown_threshold": None if scorer is None else float(scorer.threshold),
    }
    return Made(graph, inputs, contract)


def _check(model: nn.Module, nms: bool, features: bool) -> None:
    if features and not nms:
        raise ValueError("features are those of detections, and without nms there are none")
    if isinstance(model, GeneralizedRCNN):
        heads: Any = model.roi_heads
        if not nms:
            raise ValueError(
                f"{own_class(model).__name__} drops proposals for better ones in any case; "
                "without nms SSD, RetinaNet and FCOS are exported"
            )
        if heads.has_mask() or heads.has_keypoint():
            raise TypeError("masks and keypoints are not exported, only boxes")


def _check_own(detector: Any) -> None:
    """Whether all that is done in another way here is torchvision's own."""
    name = own_class(detector).__name__
    if isinstance(detector, GeneralizedRCNN):
        batched = isinstance(detector.rpn, Proposals)
        batched &= isinstance(detector.roi_heads, RoIDetections)
    else:
        batched = any(isinstance(detector, of) for of in _DETECTIONS.values())
    if not batched:
        raise TypeError(
            f"this {name} post-processes its detections in a way of its own, which an export "
            "would not do"
        )
    if not keeps(detector.transform, GeneralizedRCNNTransform, *_TRANSFORM):
        raise TypeError(
            f"this {name} prepares its images in a way of its own, which an export would not do"
        )


def _size(transform: Any, asked: Size | None) -> Size:
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        if asked not in (None, (height, width)):
            raise ValueError(f"this model takes images of {height} x {width} pixels, no others")
        return height, width
    if asked is None:
        return transform.max_size, transform.max_size
    if min(asked) < 1:
        raise ValueError(f"the size is two numbers of pixels, not {asked[0]} x {asked[1]}")
    return asked
