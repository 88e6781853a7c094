"""The seam into torchvision's SSD: SSD300-VGG16, SSDlite320 and any other ``SSD``."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from detcenter.losses import MultiBoxLoss
from detcenter.models.anchor_embedding import AnchorEmbedding, AnchorEmbeddingHead
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
        :func:`with_features`, ``features``, one map [N, D_l, H_l, W_l] a level (of an anchor
        embedding [N, D, H_l, W_l * A_l]); ``matched_idxs`` the index of each anchor's box in its
        image, negative for background.
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
            losses |= cell_losses(
                self.box_terms,
                head_outputs["features"],
                _anchors_a_vector(self),
                matches,
                torch.stack(anchors),
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
    adopt(model).multibox = MultiBoxLoss(model.neg_to_pos_ratio, min_negatives)
    return model


def set_anchor_embedding(model: SSD, dim: int) -> SSD:
    """Let the softmax read a vector of ``dim`` values of every anchor, in place.

    torchvision's SSD classifies the anchors of a cell straight from the cell's feature vector,
    which they share and which a term can hardly tighten. Here a branch gives every anchor a vector
    of its own, and one linear layer, shared by all, the logits. Those vectors are then what a term
    reads (``features=None`` of :func:`attach`), as in the paper; docs/study.md has what it does.

    The branches keep their form, but the classification head is new: weights of one do not fit.

    Raises:
        ValueError: if ``dim`` is not positive, or something is attached to ``model``: what reads
            its features has to come after this.
    """
    if dim < 1:
        raise ValueError(f"the dimensions of an anchor embedding are at least 1, not {dim}")
    if isinstance(model, AttachedSSD):
        raise ValueError("set_anchor_embedding comes before attach and set_min_negatives")
    counts = model.anchor_generator.num_anchors_per_location()
    old = model.head.classification_head
    branches = [_widened(b, n * dim) for b, n in zip(old.module_list, counts, strict=True)]
    embedding = AnchorEmbedding(branches, dim, old.num_columns)
    like = next(model.head.parameters())
    head = AnchorEmbeddingHead(embedding.to(like.device, like.dtype), model.head.regression_head)
    model.head = head.train(model.training)
    return model


def _widened(branch: nn.Module, channels: int) -> nn.Module:
    """``branch`` with a new last convolution to so many channels."""
    last = _convolutions(branch)[-1]
    new = nn.Conv2d(last.in_channels, channels, last.kernel_size, last.stride, last.padding)  # type: ignore[arg-type]
    if branch is last:
        return new
    branch.set_submodule(next(name for name, m in branch.named_modules() if m is last), new)
    return branch


def with_features(
    head: nn.Module, inputs: tuple[list[Tensor]], outputs: dict[str, Any]
) -> dict[str, Any]:
    """Forward hook of the head: hand the feature maps on to ``compute_loss``.

    A module-level function without state, so that copies and pickles of the model share nothing.
    """
    return {"features": inputs[0]} | outputs


def feature_widths(model: SSD) -> list[int]:
    """D_l, the width of the vectors of each level."""
    head = model.head.classification_head
    if isinstance(head, AnchorEmbedding):
        return [head.dim] * len(head.module_list)
    return [_convolutions(branch)[0].in_channels for branch in head.module_list]


def num_classes(model: SSD) -> int:
    """C, with background."""
    return int(model.head.classification_head.num_columns)


def classifiers(model: SSD) -> list[nn.Module]:
    """The layers that give the class logits."""
    head = model.head.classification_head
    if isinstance(head, AnchorEmbedding):
        return [head.classifier]
    return [_convolutions(branch)[-1] for branch in head.module_list]


def vectors(
    model: SSD, images: ImageList, feature_maps: dict[str, Tensor], boxes: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """The vectors of ``boxes`` by level, see :func:`vectors_at`: those of the best anchors."""
    maps = list(feature_maps.values())
    best = best_anchors(model.anchor_generator(images, maps), boxes)
    head = model.head.classification_head
    described = head(maps) if isinstance(head, AnchorEmbedding) else maps
    return vectors_at(described, _anchors_a_vector(model), best)


def _anchors_a_vector(model: SSD) -> list[int]:
    """How many anchors of a level share one vector: those of a cell, or each has its own."""
    counts: list[int] = model.anchor_generator.num_anchors_per_location()
    alone = isinstance(model.head.classification_head, AnchorEmbedding)
    return [1] * len(counts) if alone else counts


def _convolutions(branch: nn.Module) -> list[nn.Conv2d]:
    return [module for module in branch.modules() if isinstance(module, nn.Conv2d)]
