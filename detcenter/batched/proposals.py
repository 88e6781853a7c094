"""An R-CNN's proposals, for a batch: the host waits once, and for the suppression of each image."""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from detcenter.batched.boxes import boxes_at, clipped
from detcenter.batched.lent import Batched, exporting
from detcenter.batched.suppression import few


class Proposals(Batched):
    """Lent to a region proposal network. Suppression is torchvision's kernel, image by image: one
    call for all would compare every box with those of the other images too."""

    def filter_proposals(
        self: Any,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        if exporting():
            plain: Any = super().filter_proposals  # type: ignore[misc]
            return plain(proposals, objectness, image_shapes, num_anchors_per_level)  # type: ignore[no-any-return]
        objectness = objectness.detach().reshape(len(proposals), -1)
        best = self._get_top_n_idx(objectness, num_anchors_per_level)
        levels = torch.cat([best.new_full((n,), x) for x, n in enumerate(num_anchors_per_level)])
        scores = objectness.gather(1, best).sigmoid()
        boxes = clipped(boxes_at(proposals, best), image_shapes)
        sides = boxes[..., 2:] - boxes[..., :2]
        valid = (sides >= self.min_size).all(2) & (scores >= self.score_thresh)
        # The valid ones first, in the order in which they are looked at.
        ranks, order = scores.masked_fill(~valid, -torch.inf).sort(
            dim=1, descending=True, stable=True
        )
        boxes, levels = boxes_at(boxes, order), levels[best.gather(1, order)]
        apart = _apart(boxes, levels, ranks > -torch.inf)
        found_boxes, found_scores = [], []
        for image, count in enumerate(valid.sum(1).tolist()):
            box, score = boxes[image, :count], ranks[image, :count]
            if not few(count, box.device):
                keep = batched_nms(box, score, levels[image, :count], self.nms_thresh)
            else:
                keep = nms(apart[image, :count], score, self.nms_thresh)
            keep = keep[: self.post_nms_top_n()]
            found_boxes.append(box[keep])
            found_scores.append(score[keep])
        return found_boxes, found_scores


def _apart(boxes: Tensor, levels: Tensor, valid: Tensor) -> Tensor:
    """Boxes [N, K, 4], those of each level beyond the last's, as ``batched_nms`` has few."""
    largest = boxes.masked_fill(~valid.unsqueeze(2), -torch.inf).flatten(1).amax(1)
    return boxes + (levels * (largest + 1).unsqueeze(1)).unsqueeze(2)
