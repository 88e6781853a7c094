"""The seam into torchvision's SSD: SSD300-VGG16, SSDlite320 and any other ``SSD``."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD

from detcenter.losses import MultiBoxLoss


class AttachedSSD(SSD):
    """An ``SSD`` that trains with :class:`MultiBoxLoss` and the terms in ``box_terms``.

    Made by :func:`adopt` from an existing model, by exchanging its class: parameters, buffers and
    their names stay what they are. In eval mode it is the model that it was.
    """

    multibox: MultiBoxLoss
    box_terms: nn.ModuleDict

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
        labels, boxes = _matched_objects(targets, torch.stack(matched_idxs))
        regression_targets = self.box_coder.encode_single(
            boxes.flatten(0, 1), torch.cat(anchors)
        ).view_as(boxes)
        losses: dict[str, Tensor] = self.multibox(
            head_outputs["cls_logits"], head_outputs["bbox_regression"], labels, regression_targets
        )
        if self.box_terms:
            losses |= self._term_losses(head_outputs["features"], labels)
        return losses

    # How many boxes are positive is known at run time only: one graph break instead of several.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _term_losses(self, feature_maps: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        cells = self._positive_cells(feature_maps, labels)
        return {k: v for term in self.box_terms.values() for k, v in term(*cells).items()}

    def _positive_cells(
        self, feature_maps: list[Tensor], labels: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Per level the vector [P_l, D_l] and the label [P_l] of every positive anchor.

        Anchors come in the order (level, row, column, anchor of the cell).
        """
        per_cell = self.anchor_generator.num_anchors_per_location()
        anchors = [x[0, 0].numel() * n for x, n in zip(feature_maps, per_cell, strict=True)]
        vectors, vector_labels = [], []
        for x, n, level_labels in zip(
            feature_maps, per_cell, labels.split(anchors, 1), strict=True
        ):
            image, anchor = level_labels.nonzero(as_tuple=True)
            vectors.append(x.flatten(2).transpose(1, 2)[image, anchor // n])
            vector_labels.append(level_labels[image, anchor])
        return vectors, vector_labels


def adopt(model: SSD) -> AttachedSSD:
    """Make ``model`` an :class:`AttachedSSD` in place, if it is not one yet."""
    if not isinstance(model, AttachedSSD):
        model.multibox = MultiBoxLoss(model.neg_to_pos_ratio)
        model.box_terms = nn.ModuleDict()
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
    adopt(model).multibox = MultiBoxLoss(model.neg_to_pos_ratio, min_negatives)
    return model


def with_features(
    head: nn.Module, inputs: tuple[list[Tensor]], outputs: dict[str, Any]
) -> dict[str, Any]:
    """Forward hook of the head: hand the feature maps on to ``compute_loss``.

    A module-level function without state, so that copies and pickles of the model share nothing.
    """
    return outputs | {"features": inputs[0]}


def level_widths(model: SSD) -> list[int]:
    """D_l, the channels of each feature map that the head reads."""
    branches = model.head.classification_head.module_list
    return [_first_conv(branch).in_channels for branch in branches]


def num_classes(model: SSD) -> int:
    """C, with background."""
    return int(model.head.classification_head.num_columns)


def _first_conv(branch: nn.Module) -> nn.Conv2d:
    return next(module for module in branch.modules() if isinstance(module, nn.Conv2d))


def _matched_objects(targets: list[dict[str, Tensor]], matched: Tensor) -> tuple[Tensor, Tensor]:
    """Label [N, A] and box [N, A, 4] of what each anchor is matched with.

    Background anchors (``matched`` [N, A] negative) get label 0 and a box that stands for none.
    """
    labels = [target["labels"] for target in targets]
    boxes = [target["boxes"] for target in targets]
    counts = torch.tensor([len(x) for x in labels])
    first = (counts.cumsum(0) - counts).to(matched.device, non_blocking=True).unsqueeze(1)
    # Background reads the last row, which is no object's.
    index = torch.where(matched >= 0, matched + first, -1)
    all_labels = torch.cat([*labels, labels[0].new_zeros(1)])
    all_boxes = torch.cat([*boxes, boxes[0].new_tensor([[0.0, 0.0, 1.0, 1.0]])])
    return all_labels[index], all_boxes[index]
