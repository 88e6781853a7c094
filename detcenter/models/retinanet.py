"""The seam into torchvision's RetinaNet and FCOS, whose heads compute the losses themselves."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead

from detcenter.models.cells import best_anchors, cell_losses, matched_objects, vectors_at
from detcenter.models.terms import BoxTerms

SOURCE = "cell"


class HeadOutputs(dict[str, Tensor]):
    """What the head returns, with the maps that it read beside it.

    Not as another entry: in eval mode RetinaNet and FCOS split every entry into levels.
    """

    feature_maps: list[Tensor]


class _HeadWithTerms:
    """What both heads do beyond torchvision's: add the losses of ``box_terms``."""

    box_terms: BoxTerms
    classification_head: Any

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: HeadOutputs,
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = super().compute_loss(  # type: ignore[misc]
            targets, head_outputs, anchors, matched_idxs
        )
        maps = head_outputs.feature_maps
        return losses | self._term_losses(maps, targets, anchors, matched_idxs)

    # The matching would break the graph too: one break for both.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _term_losses(
        self,
        maps: list[Tensor],
        targets: list[dict[str, Tensor]],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        per_cell = [self.classification_head.num_anchors] * len(maps)
        matches = matched_objects(targets, torch.stack(matched_idxs))
        losses: dict[str, Tensor] = cell_losses(
            self.box_terms, maps, per_cell, matches, torch.stack(anchors)
        )
        return losses


class AttachedRetinaNetHead(_HeadWithTerms, RetinaNetHead):
    """Made by :func:`adopt` from a model's head, by exchanging its class."""


class AttachedFCOSHead(_HeadWithTerms, FCOSHead):
    """Made by :func:`adopt` from a model's head, by exchanging its class."""


_ATTACHED: dict[type, type] = {RetinaNetHead: AttachedRetinaNetHead, FCOSHead: AttachedFCOSHead}
_PLAIN = {attached: plain for plain, attached in _ATTACHED.items()}


def owns(model: nn.Module) -> bool:
    return isinstance(model, RetinaNet | FCOS) and type(model.head) in _ATTACHED | _PLAIN


def host(model: RetinaNet | FCOS) -> Any:
    """The module that carries ``box_terms``."""
    return model.head


def adopt(model: RetinaNet | FCOS) -> Any:
    """Give the model's head its terms, in place, if it has none yet; returns the head."""
    head = host(model)
    if type(head) in _ATTACHED:
        head.box_terms = BoxTerms()
        head.register_forward_hook(with_features)
        head.__class__ = _ATTACHED[type(head)]
    return head


def release(model: RetinaNet | FCOS) -> None:
    """Undo :func:`adopt`; the terms are dropped with their parameters and centers."""
    head = host(model)
    hooks = head._forward_hooks
    for key in [key for key, hook in hooks.items() if hook is with_features]:
        del hooks[key]
    del head.box_terms
    head.__class__ = _PLAIN[type(head)]


def with_features(
    head: nn.Module, inputs: tuple[list[Tensor]], outputs: dict[str, Tensor]
) -> HeadOutputs:
    """Forward hook of the head: hand the feature maps on to ``compute_loss``.

    A module-level function without state, so that copies and pickles of the model share nothing.
    """
    outputs = HeadOutputs(outputs)
    outputs.feature_maps = inputs[0]
    return outputs


def feature_widths(model: RetinaNet | FCOS) -> list[int]:
    """D of each feature map; the head reads maps of one width."""
    first = next(m for m in model.head.classification_head.modules() if isinstance(m, nn.Conv2d))
    return [first.in_channels] * len(model.anchor_generator.num_anchors_per_location())


def num_classes(model: RetinaNet | FCOS) -> int:
    """C; class 0 is there and never used."""
    return int(model.head.classification_head.num_classes)


def classifiers(model: RetinaNet | FCOS) -> list[nn.Module]:
    """The layers that give the class logits."""
    return [model.head.classification_head.cls_logits]


def vectors(
    model: RetinaNet | FCOS,
    images: ImageList,
    feature_maps: dict[str, Tensor],
    boxes: list[Tensor],
) -> list[tuple[Tensor, Tensor]]:
    """The vectors of ``boxes`` by level, see :func:`vectors_at`."""
    maps = list(feature_maps.values())
    anchors = model.anchor_generator(images, maps)
    if isinstance(model, FCOS):
        best = _responsible_points(anchors, boxes, model.center_sampling_radius)
    else:
        best = best_anchors(anchors, boxes)
    return vectors_at(maps, model.anchor_generator.num_anchors_per_location(), best)


def _responsible_points(anchors: list[Tensor], boxes: list[Tensor], radius: float) -> list[Tensor]:
    """For each image's boxes [N, 4] the point, [N], that FCOS would hold responsible.

    Of the points that training would match with the box, were it alone, the nearest to its center.
    A box that none matches (a thin one may lie between all points) gets the nearest point of the
    level for its size.
    """
    pairs = zip(anchors, boxes, strict=True)
    return [_responsible_point(a.to(b.dtype), b, radius) for a, b in pairs]


def _responsible_point(anchors: Tensor, boxes: Tensor, radius: float) -> Tensor:
    strides = anchors[:, 2] - anchors[:, 0]
    finest, coarsest = strides == strides.min(), strides == strides.max()
    least = torch.where(finest, 0.0, 4 * strides)
    most = torch.where(coarsest, torch.inf, 8 * strides)
    points, centers = ((x[:, :2] + x[:, 2:]) / 2 for x in (anchors, boxes))
    distance = torch.cdist(centers, points, p=torch.inf)
    # left, top, right and bottom as FCOS regresses them, [N, A, 4]
    sides = torch.cat([points - boxes[:, None, :2], boxes[:, None, 2:] - points], 2)
    reach = sides.amax(2)
    matched = (distance < radius * strides) & (sides.amin(2) > 0) & (reach > least) & (reach < most)
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    level = torch.where(half < most, strides, strides.max()).amin(1, keepdim=True)
    allowed = torch.where(matched.any(1, keepdim=True), matched, strides == level)
    return distance.masked_fill(~allowed, torch.inf).argmin(1)
