"""torchvision's training step of SSD for a whole batch: nothing waits for the device."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from detcenter.batched.inputs import Targets, maps_of, prepared
from detcenter.batched.lent import Batched
from detcenter.batched.ssd_matching import all_objects, matches, object_index
from detcenter.losses.multibox import looking_is_free, multibox_loss


class SSDStep(Batched):
    """Lent to an SSD: its ``forward``, of which targets are checked and matched at once."""

    def forward(self: Any, images: list[Tensor], targets: Targets | None = None) -> Any:
        given = prepared(self, images, targets)
        batch, targets = given.batch, given.targets
        features = list(maps_of(self, batch).values())
        head_outputs = self.head(features)
        anchors = self.anchor_generator(batch, features)
        given.check_boxes()
        losses: dict[str, Tensor] = {}
        detections: list[dict[str, Tensor]] = []
        if self.training:
            assert targets is not None
            matched_idxs = _matched(self.proposal_matcher, targets, anchors)
            losses = self.compute_loss(targets, head_outputs, anchors, matched_idxs)
        else:
            detections = self.postprocess_detections(head_outputs, anchors, batch.image_sizes)
            detections = self.transform.postprocess(detections, batch.image_sizes, given.sizes)
        return self.eager_outputs(losses, detections)


class SSDLosses(Batched):
    """Lent to an SSD: its losses, mined for all images at once."""

    def compute_loss(
        self: Any,
        targets: Targets,
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        loss = partial(multibox_loss, neg_to_pos_ratio=self.neg_to_pos_ratio)
        return ssd_losses(targets, head_outputs, anchors, matched_idxs, self.box_coder, loss)


def ssd_losses(
    targets: Sequence[dict[str, Tensor]],
    head_outputs: dict[str, Tensor],
    anchors: Sequence[Tensor],
    matched_idxs: Sequence[Tensor],
    box_coder: Any,
    loss: Callable[..., dict[str, Tensor]],
) -> dict[str, Tensor]:
    """``loss``, a :class:`MultiBoxLoss`, of what torchvision's ``SSD.compute_loss`` is given.

    Args:
        targets, anchors, matched_idxs: an image each: its objects, [A, 4], and the number of each
            anchor's object in its image, [A], negative for background.
        head_outputs: ``cls_logits`` [N, A, C] and ``bbox_regression`` [N, A, 4].
        box_coder: makes of objects' boxes what is to be predicted.
    """
    matched = torch.stack(list(matched_idxs))
    index, (labels, boxes) = object_index(targets, matched), all_objects(targets)
    positive = matched >= 0
    if looking_is_free(matched):
        at = positive.nonzero(as_tuple=True)
        codes = box_coder.encode_single(boxes[index[at]], torch.stack(list(anchors))[at])
        encoded = codes.new_zeros(*matched.shape, 4).index_put_(at, codes)
    else:
        codes = box_coder.encode_single(boxes[index.flatten()], torch.cat(list(anchors)))
        encoded = codes.view(*matched.shape, 4)
    outputs = head_outputs["cls_logits"], head_outputs["bbox_regression"]
    return loss(*outputs, labels[index], encoded, positive)


def _matched(matcher: Any, targets: Targets, anchors: list[Tensor]) -> list[Tensor]:
    """The number of each anchor's object in its image, [A] an image, -1 for background."""
    boxes = [target["boxes"] for target in targets]
    if _is_torchvisions(matcher) and len({len(of_image) for of_image in anchors}) == 1:
        return list(matches(boxes, anchors, matcher.high_threshold))
    return [
        matcher(box_iou(b, a))
        if b.numel()
        else torch.full((len(a),), -1, dtype=torch.int64, device=a.device)
        for b, a in zip(boxes, anchors, strict=False)
    ]


def _is_torchvisions(matcher: Any) -> bool:
    """Whether it matches as torchvision's SSD does, with one threshold."""
    one = matcher.low_threshold == matcher.high_threshold if type(matcher) is SSDMatcher else False
    return one and not matcher.allow_low_quality_matches
