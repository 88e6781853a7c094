"""The R-CNNs in a graph for images of one size."""

from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import roi_align

from detcenter.batched.boxes import boxes_at
from detcenter.batched.detections import SMALLEST_SIDE
from detcenter.batched.inputs import maps_of
from detcenter.export.graph import Candidates, inside, picked, thoughts_of
from detcenter.export.suppression import Suppression
from detcenter.models import family_of, terms_of
from detcenter.models.candidates import reconsidering


class RCNNEye(nn.Module):
    """Looks with a detector that is :func:`detcenter.fast`; its anchors are constants.

    ``suppress`` is for its proposals.
    """

    anchors: Tensor

    def __init__(
        self, model: Any, size: tuple[int, int], padded: tuple[int, int], suppress: Suppression
    ) -> None:
        super().__init__()
        self.model = model
        self.suppress = suppress
        blank = ImageList(torch.zeros(1, 3, *padded), [size])
        maps = maps_of(model, blank)
        objectness, _ = model.rpn.head(list(maps.values()))
        self.sizes = [x[0].numel() for x in objectness]
        (anchors,) = model.rpn.anchor_generator(blank, list(maps.values()))
        self.register_buffer("anchors", anchors.clone(), persistent=False)
        # It finds out the maps' scales when it is called first.
        model.roi_heads.box_roi_pool(maps, [torch.ones(1, 4)], [size])

    def forward(self, batch: Tensor, corners: Tensor) -> "_Seen":
        return _Seen(self, batch, corners)


class _Seen:
    def __init__(self, eye: RCNNEye, batch: Tensor, corners: Tensor) -> None:
        self.model: Any = eye.model
        self.heads: Any = eye.model.roi_heads
        self.eye, self.corners = eye, corners
        self.maps = maps_of(self.model, ImageList(batch, []))

    def candidates(self) -> Candidates:
        """Of each proposal a box a class."""
        heads = self.heads
        proposals, _, _, there = picked(self._proposals(), self.eye.suppress)
        thoughts = thoughts_of(self.model)
        pooled = self._pooled(proposals)
        with reconsidering(self.model, thoughts) if thoughts else nullcontext():
            logits, codes = heads.box_predictor(pooled)
        boxes = heads.box_coder.decode_single(codes, proposals.flatten(0, 1))
        boxes = boxes.view(*there.shape, -1, 4)[:, :, 1:].transpose(1, 2)
        boxes = inside(boxes.flatten(1, 2), self.corners).view(boxes.shape)
        scores = F.softmax(logits, -1)[:, 1:].unflatten(0, there.shape).transpose(1, 2)
        large = (boxes[..., 2:] - boxes[..., :2] >= SMALLEST_SIDE).all(3)
        scores = scores.where(large & there.unsqueeze(1), -torch.inf)
        of_detections = heads.score_thresh, heads.nms_thresh, heads.detections_per_img
        return Candidates(boxes, scores, 1, *of_detections)

    def features(self, boxes: Tensor) -> Tensor:
        """What the layer of the class logits reads."""
        family: Any = family_of(self.model)
        read: list[Tensor] = []
        hook = family.reader(self.model).register_forward_pre_hook(
            lambda _, inputs: read.append(inputs[0])
        )
        try:
            self.said, _ = self.heads.box_predictor(self._pooled(boxes))
        finally:
            hook.remove()
        (vectors,) = (x.flatten(1) for x in read)
        terms = terms_of(self.model)
        term = terms.named(None)
        if term is None or not term.embedded:
            return vectors
        projected: Tensor = cast(Any, terms["embedding"]).projections[0](vectors)
        return projected

    def logits(self) -> Tensor:
        return self.said

    def _proposals(self) -> Candidates:
        """Of each level the best, as the region proposal network has them."""
        rpn: Any = self.model.rpn
        objectness, codes = rpn.head(list(self.maps.values()))
        images = objectness[0].shape[0]
        flat, codes = concat_box_prediction_layers(objectness, codes)
        anchors = self.eye.anchors.expand(images, -1, -1)
        boxes = rpn.box_coder.decode_single(codes, anchors.flatten(0, 1)).view(anchors.shape)
        first, found = 0, []
        for level, (size, logits) in enumerate(
            zip(self.eye.sizes, flat.view(images, -1).split(self.eye.sizes, 1), strict=True)
        ):
            best, at = logits.topk(min(rpn.pre_nms_top_n(), size))
            found.append((boxes_at(boxes, at + first), best.sigmoid(), torch.full_like(at, level)))
            first += size
        boxes, scores, levels = (torch.cat(x, 1) for x in zip(*found, strict=True))
        boxes = inside(boxes, self.corners)
        large = (boxes[..., 2:] - boxes[..., :2] >= rpn.min_size).all(2)
        valid = large & (scores >= rpn.score_thresh)
        of_level = torch.arange(len(found), device=levels.device).view(1, -1, 1)
        here = valid.unsqueeze(1) & (levels.unsqueeze(1) == of_level)
        scores = scores.unsqueeze(1).where(here, -torch.inf)
        # All that are valid are candidates, those of score 0 too.
        return Candidates(boxes, scores, 1, -1.0, rpn.nms_thresh, rpn.post_nms_top_n())

    def _pooled(self, boxes: Tensor) -> Tensor:
        """What the box head makes of boxes [N, M, 4], [N M, ...]."""
        pool: Any = self.heads.box_roi_pool
        images = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
        rows = torch.cat([images.view(-1, 1, 1).expand(-1, boxes.shape[1], -1), boxes], 2)
        rows = rows.flatten(0, 1)
        maps = [x for name, x in self.maps.items() if name in pool.featmap_names]
        level = pool.map_levels([rows[:, 1:]])
        how = pool.output_size, pool.sampling_ratio
        pooled = rows.new_zeros(rows.shape[0], maps[0].shape[1], *pool.output_size)
        for number, (x, scale) in enumerate(zip(maps, pool.scales, strict=True)):
            at = (level == number).nonzero().squeeze(1)
            found = roi_align(x, rows[at], how[0], scale, how[1])
            pooled = pooled.index_copy(0, at, found)
        made: Tensor = self.heads.box_head(pooled)
        return made
