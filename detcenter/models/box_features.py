"""The features and class logits of any box, and the features of a detector's own detections."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.transform import resize_boxes

from detcenter.models.families import family_of, terms_of


@torch.no_grad()
def box_features(
    model: Any, images: Sequence[Tensor], boxes: Sequence[Tensor], name: str | None = None
) -> list[Tensor]:
    """The feature of every box, as the term ``name`` saw it in training.

    The R-CNNs pool the box and give the vector that their layer of class logits reads; the others
    give the vector of the cell whose anchor fits the box best (of FCOS: the point that it would
    hold responsible). Where the term reads an embedding, that vector's projection. Everything runs
    in eval mode, in one batch, without gradients; the model's modes are put back.

    Args:
        model: a detector that :func:`attach` takes, attached to or not.
        images: [3, H, W] in 0..1 each, on the model's device.
        boxes: [N, 4] each, xyxy in pixels of its image.
        name: of the term; None is the first one. A model without terms gives its own vectors.

    Returns:
        [N, D] for each image. Where levels differ in width (SSD300, SSDlite) and there is no
        embedding, every level has a block of its own in D = the sum of the widths, and the rest is
        zero: vectors of different levels have nothing in common.

    Raises:
        TypeError: if ``model`` is no detector that is known here.
        ValueError: for shapes that do not fit, or a term that is not there.
    """
    with _passed(model, images, boxes) as (batch, maps, scaled):
        return _features(model, batch, maps, scaled, name)


@torch.no_grad()
def box_logits(model: Any, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
    r"""What a detector takes given boxes for, as logits whose softmax is a distribution.

    Column 0 is "none of the classes". Of an R-CNN they are the classifier's logits, if the boxes
    were its proposals; of an SSD those of the anchor that fits the box best. RetinaNet and FCOS
    give every class c a probability :math:`p_c` of its own, by a sigmoid; their column 0 is zero,
    so that the softmax of the logits has the odds :math:`p_c / (1 - p_c)` of each class against
    none. A vote (:func:`vote`) has no part in it.

    Arguments and errors are those of :func:`box_features`.

    Returns:
        [N, C] for each image, float32 or finer.
    """
    with _passed(model, images, boxes) as (batch, maps, scaled):
        return _logits(model, batch, maps, scaled)


@torch.no_grad()
def detect_with_features(
    model: Any,
    images: Sequence[Tensor],
    name: str | None = None,
    scorer: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> list[dict[str, Tensor]]:
    """torchvision's detections in eval mode, with an entry ``features`` [N, D] more.

    They are :func:`box_features` of the detected boxes, taken from the same pass of the backbone.

    Args:
        model, images, name: as :func:`box_features` takes them.
        scorer: a :class:`detcenter.UnknownScorer`, or what else is called with the features and
            logits of boxes. What it returns, [N], is the entry ``unknown_scores``, and there are
            ``logits`` [N, C] as :func:`box_logits` gives them, of the same pass.
    """
    family_of(model)
    kept: dict[str, Any] = {}
    hooks = [
        part.register_forward_hook(lambda _, __, output, key=key: kept.update({key: output}))
        for key, part in (("batch", model.transform), ("maps", model.backbone))
    ]
    try:
        with evaluating(model):
            detections: list[dict[str, Tensor]] = model(list(images))
            batch, _ = kept["batch"]
            boxes = [
                resize_boxes(found["boxes"], list(image.shape[-2:]), list(size))
                for found, image, size in zip(detections, images, batch.image_sizes, strict=True)
            ]
            more = {}
            with unsharded(model):
                of_boxes = model, batch, _as_dict(kept["maps"]), boxes
                more["features"] = _features(*of_boxes, name)
                if scorer is not None:
                    more["logits"] = _logits(*of_boxes)
    finally:
        for hook in hooks:
            hook.remove()
    if scorer is not None:
        pairs = zip(more["features"], more["logits"], strict=True)
        more["unknown_scores"] = [scorer(*pair) for pair in pairs]
    entries = zip(*more.values(), strict=True)
    return [
        found | dict(zip(more, mine, strict=True))
        for found, mine in zip(detections, entries, strict=True)
    ]


@contextmanager
def _passed(
    model: Any, images: Sequence[Tensor], boxes: Sequence[Tensor]
) -> Iterator[tuple[ImageList, dict[str, Tensor], list[Tensor]]]:
    """Inside, ``model`` is in eval mode and whole: images as its backbone takes them, the maps that
    it makes of them, and ``boxes`` in their pixels.
    """
    family_of(model)
    _check(images, boxes)
    with evaluating(model), unsharded(model):
        # Not in the images' dtype: half precision would move boxes by pixels.
        targets = [
            {"boxes": b.to(x.device, torch.float32)} for x, b in zip(images, boxes, strict=True)
        ]
        batch, scaled = model.transform(list(images), targets)
        maps = _as_dict(model.backbone(batch.tensors))
        yield batch, maps, [target["boxes"] for target in scaled]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Inside, the parts of a model that FSDP2 has sharded (``fully_shard``) are whole.

    All processes have to enter it. Where nothing is sharded it does nothing.
    """
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()


def _features(
    model: nn.Module,
    batch: ImageList,
    maps: dict[str, Tensor],
    boxes: list[Tensor],
    name: str | None,
) -> list[Tensor]:
    """``boxes`` in the pixels of ``batch``."""
    levels = family_of(model).vectors(model, batch, maps, boxes)
    terms = terms_of(model)
    term = terms.named(name)
    if term is not None and term.embedded:
        projections: Any = terms["embedding"].projections
        levels = [(at, f(x)) for f, (at, x) in zip(projections, levels, strict=True)]
    counts = [len(b) for b in boxes]
    return list(_placed(levels, sum(counts)).split(counts))


def _logits(
    model: nn.Module, batch: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
) -> list[Tensor]:
    """``boxes`` in the pixels of ``batch``."""
    logits = family_of(model).logits(model, batch, maps, boxes)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if not isinstance(model, SSD | GeneralizedRCNN):
        logits = torch.cat([torch.zeros_like(logits[:, :1]), logits[:, 1:]], 1)
    return list(logits.split([len(b) for b in boxes]))


def _placed(levels: list[tuple[Tensor, Tensor]], count: int) -> Tensor:
    """Vectors of all levels in the order of their boxes; see :func:`box_features` for blocks."""
    widths = [x.shape[1] for _, x in levels]
    blocks = len(set(widths)) > 1
    placed = levels[0][1].new_zeros(count, sum(widths) if blocks else widths[0])
    start = 0
    for (at, x), width in zip(levels, widths, strict=True):
        placed[at, start : start + width] = x
        start += width if blocks else 0
    return placed


def _check(images: Sequence[Tensor], boxes: Sequence[Tensor]) -> None:
    if not isinstance(boxes, list | tuple) or not all(map(torch.is_tensor, boxes)):
        raise TypeError("boxes are a list of one tensor [N, 4] an image, xyxy in pixels")
    if len(images) != len(boxes) or not images:
        raise ValueError(f"one tensor of boxes an image: {len(images)} images, {len(boxes)} boxes")
    wrong = [list(b.shape) for b in boxes if b.dim() != 2 or b.shape[1] != 4]
    if wrong:
        raise ValueError(f"boxes are [N, 4] for each image, not {wrong[0]}")


def _as_dict(maps: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    return {"0": maps} if isinstance(maps, Tensor) else maps
