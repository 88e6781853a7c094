"""The seam into torchvision's Faster, Mask and Keypoint R-CNN: their ``RoIHeads``."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads

from detcenter.models.cells import pair_iou
from detcenter.models.terms import BoxTerms, Positives

SOURCE = "box"


class AttachedRoIHeads(RoIHeads):
    """``RoIHeads`` that add the losses of ``box_terms``, on what the box predictor reads.

    Made by :func:`adopt` from a model's, by exchanging their class. What a step keeps for the
    terms lies on the module itself and is gone when ``forward`` returns.
    """

    box_terms: BoxTerms
    _sampled: tuple[list[Tensor], list[Tensor], list[Tensor]]

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        samples = super().select_training_samples(proposals, targets)
        self._sampled = samples[:3]
        return samples

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        try:
            result, losses = super().forward(features, proposals, image_shapes, targets)
            if self.training and targets is not None:
                losses |= self._term_losses(targets)
            return result, losses
        finally:
            self.__dict__.pop("_sampled", None)
            self.box_predictor.__dict__.pop("box_features", None)

    # How many boxes are positive is known at run time only: one graph break instead of several.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _term_losses(self, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.box_terms([self._positives(targets)])
        return losses

    def _positives(self, targets: list[dict[str, Tensor]]) -> Positives:
        """The sampled proposals that are matched with an object."""
        proposals, matched_idxs, labels = self._sampled
        counts = [len(target["boxes"]) for target in targets]
        first = [sum(counts[:image]) for image in range(len(counts))]
        label = torch.cat(labels)
        (at,) = (label > 0).nonzero(as_tuple=True)
        index = torch.cat([m + start for m, start in zip(matched_idxs, first, strict=True)])[at]
        boxes = torch.cat([target["boxes"] for target in targets])
        if not hasattr(self.box_predictor, "box_features"):
            raise RuntimeError(
                "roi_heads.box_predictor was replaced after attach: detach, replace, attach again"
            )
        features = self.box_predictor.box_features.flatten(1)
        ious = pair_iou(torch.cat(proposals)[at], boxes[index])
        return Positives(features[at], label[at], index, ious)


def owns(model: nn.Module) -> bool:
    known = isinstance(model, GeneralizedRCNN)
    return known and type(model.roi_heads) in (RoIHeads, AttachedRoIHeads)


def host(model: GeneralizedRCNN) -> Any:
    """The module that carries ``box_terms``."""
    return model.roi_heads


def adopt(model: GeneralizedRCNN) -> AttachedRoIHeads:
    """Give the model's ``RoIHeads`` their terms, in place, if they have none yet."""
    heads = host(model)
    if type(heads) is RoIHeads:
        heads.box_terms = BoxTerms()
        heads.box_predictor.register_forward_pre_hook(keep_input)
        heads.__class__ = AttachedRoIHeads
    attached: AttachedRoIHeads = heads
    return attached


def release(model: GeneralizedRCNN) -> None:
    """Undo :func:`adopt`; the terms are dropped with their parameters and centers."""
    heads = host(model)
    hooks = heads.box_predictor._forward_pre_hooks
    for key in [key for key, hook in hooks.items() if hook is keep_input]:
        del hooks[key]
    del heads.box_terms
    heads.__class__ = RoIHeads


def keep_input(predictor: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Forward pre-hook of the box predictor; ``AttachedRoIHeads.forward`` takes the input away.

    A module-level function, so that copies and pickles of the model share nothing.
    """
    predictor.box_features = inputs[0]


def feature_widths(model: GeneralizedRCNN) -> list[int]:
    """D of the vector that the box predictor reads: one level."""
    return [_classifier(model).in_features]


def num_classes(model: GeneralizedRCNN) -> int:
    """C, with background."""
    return _classifier(model).out_features


def classifiers(model: GeneralizedRCNN) -> list[nn.Module]:
    """The layers that give the class logits."""
    return [_classifier(model)]


def vectors(
    model: GeneralizedRCNN,
    images: ImageList,
    feature_maps: dict[str, Tensor],
    boxes: list[Tensor],
) -> list[tuple[Tensor, Tensor]]:
    """The vectors of ``boxes``: what the box predictor would read if they were proposals."""
    heads = model.roi_heads
    dtype = next(iter(feature_maps.values())).dtype
    boxes = [b.to(dtype) for b in boxes]
    pooled = heads.box_roi_pool(feature_maps, boxes, images.image_sizes)
    found = heads.box_head(pooled).flatten(1)
    return [(torch.arange(len(found), device=found.device), found)]


def _classifier(model: GeneralizedRCNN) -> nn.Linear:
    layer = getattr(model.roi_heads.box_predictor, "cls_score", None)
    if not isinstance(layer, nn.Linear):
        raise TypeError(
            "the box predictor has no linear layer `cls_score`, as torchvision's FastRCNNPredictor "
            f"has: {type(model.roi_heads.box_predictor).__name__}"
        )
    return layer
