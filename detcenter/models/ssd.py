"""The seam into torchvision's SSD: SSD300-VGG16, SSDlite320 and any other ``SSD``."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from detcenter.losses import MultiBoxLoss
from detcenter.models.cells import best_anchors, cell_losses, matched_objects, vectors_at
from detcenter.models.terms import BoxTerms

SOURCE = "cell"


class AttachedSSD(SSD):
    """An ``SSD`` that trains with :class:`MultiBoxLoss` and the terms in ``box_terms``.

    Made by :func:`adopt` from an existing model, by exchanging its class: parameters, buffers and
    their names stay what they are. In eval mode it is the model that it was.
    """

    multibox: MultiBoxLoss
    box_terms: BoxTerms

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Any],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """torchvision's losses, batched, and those of the terms.

        ``head_outputs`` holds ``cls_logits`` [N, A, C], ``bbox_regression`` [N, A, 4] and, from
        :func:`with_features`, ``features``, one map [N, D_l, H_l, W_l] a level; ``matched_idxs``
        the index of each anchor's box in its image, negative for background.
        """
        matches = matched_objects(targets, torch.stack(matched_idxs))
        labels, boxes, _ = matches
        regression_targets = self.box_coder.encode_single(
            boxes.flatten(0, 1), torch.cat(anchors)
        ).view_as(boxes)
        losses: dict[str, Tensor] = self.multibox(
            head_outputs["cls_logits"], head_outputs["bbox_regression"], labels, regression_targets
        )
        if self.box_terms:
            per_cell = self.anchor_generator.num_anchors_per_location()
            losses |= cell_losses(
                self.box_terms, head_outputs["features"], per_cell, matches, torch.stack(anchors)
            )
        return losses


def owns(model: nn.Module) -> bool:
    return type(model) in (SSD, AttachedSSD)


def host(model: SSD) -> nn.Module:
    """The module that carries ``box_terms``."""
    return model


def adopt(model: SSD) -> AttachedSSD:
    """Make ``model`` an :class:`AttachedSSD` in place, if it is not one yet."""
    if not isinstance(model, AttachedSSD):
        model.multibox = MultiBoxLoss(model.neg_to_pos_ratio)
        model.box_terms = BoxTerms()
        model.head.register_forward_hook(with_features)
        model.__class__ = AttachedSSD
    return model


def release(model: AttachedSSD) -> SSD:
    """Undo :func:`adopt`; the terms are dropped with their parameters and centers."""
    hooks = model.head._forward_hooks
    for key in [key for key, hook in hooks.items() if hook is with_features]:
        del hooks[key]
    del model.multibox, model.box_terms
    model.__class__ = SSD
    return model


def set_min_negatives(model: SSD, min_negatives: int) -> SSD:
    """Mine at least ``min_negatives`` background boxes in every image; see :class:`MultiBoxLoss`.

    In place. 0 is torchvision's way, in which an image without objects teaches nothing.
    """
    before = adopt(model).multibox
    ratio = model.neg_to_pos_ratio
    model.multibox = MultiBoxLoss(ratio, min_negatives, before.over_processes)
    return model


def set_losses_over_processes(model: SSD) -> SSD:
    """Make the SSD's own losses means over the boxes of all processes; see :class:`MultiBoxLoss`.

    In place. The terms are so always.
    """
    adopt(model).multibox.over_processes = True
    return model


def with_features(
    head: nn.Module, inputs: tuple[list[Tensor]], outputs: dict[str, Any]
) -> dict[str, Any]:
    """Forward hook of the head: hand the feature maps on to ``compute_loss``.

    A module-level function without state, so that copies and pickles of the model share nothing.
    """
    return outputs | {"features": inputs[0]}


def feature_widths(model: SSD) -> list[int]:
    """D_l, the channels of each feature map that the head reads."""
    branches = model.head.classification_head.module_list
    return [convolutions(branch)[0].in_channels for branch in branches]


def num_classes(model: SSD) -> int:
    """C, with background."""
    return int(model.head.classification_head.num_columns)


def classifiers(model: SSD) -> list[nn.Module]:
    """The layers that give the class logits."""
    return [convolutions(branch)[-1] for branch in model.head.classification_head.module_list]


def vectors(
    model: SSD, images: ImageList, feature_maps: dict[str, Tensor], boxes: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """The vectors of ``boxes`` by level, see :func:`vectors_at`: those of the best anchors."""
    maps = list(feature_maps.values())
    best = best_anchors(model.anchor_generator(images, maps), boxes)
    return vectors_at(maps, model.anchor_generator.num_anchors_per_location(), best)


def convolutions(branch: nn.Module) -> list[nn.Conv2d]:
    return [module for module in branch.modules() if isinstance(module, nn.Conv2d)]
