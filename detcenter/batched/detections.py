"""torchvision's post-processing for a whole batch: no loop over levels' boxes or classes.

Nor over images, but for the scores of RetinaNet and FCOS on a CPU.

Boxes, scores, labels and their order are torchvision's, but for candidates of equal scores.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detcenter.batched.boxes import boxes_at, clipped
from detcenter.batched.lent import Batched, exporting
from detcenter.batched.ragged import padded
from detcenter.batched.suppression import suppressed, top_candidates

SMALLEST_SIDE = 1e-2  # pixels, of what the R-CNNs detect


class SSDDetections(Batched):
    """Lent to an SSD."""

    def postprocess_detections(
        self: Any,
        head_outputs: dict[str, Tensor],
        image_anchors: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        if exporting():
            plain: Any = super().postprocess_detections  # type: ignore[misc]
            return plain(head_outputs, image_anchors, image_shapes)
        codes = head_outputs["bbox_regression"]
        scores = _without_background(F.softmax(head_outputs["cls_logits"], dim=-1))
        anchors = torch.cat(image_anchors)
        boxes = self.box_coder.decode_single(codes.flatten(0, 1), anchors).view(codes.shape)
        found = suppressed(
            clipped(boxes, image_shapes),
            scores,
            score_threshold=self.score_thresh,
            iou_threshold=self.nms_thresh,
            limit=self.detections_per_img,
            most_per_class=self.topk_candidates,
        )
        return [x._asdict() for x in found]


class _LevelDetections(Batched):
    """Lent to detectors that take their best candidates level by level."""

    def postprocess_detections(
        self: Any,
        head_outputs: dict[str, list[Tensor]],
        anchors: list[list[Tensor]],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        if exporting():
            plain: Any = super().postprocess_detections  # type: ignore[misc]
            return plain(head_outputs, anchors, image_shapes)  # type: ignore[no-any-return]
        levels = [
            dict(zip(head_outputs, x, strict=True))
            for x in zip(*head_outputs.values(), strict=True)
        ]
        found = [
            self._best_of_level(outputs, torch.stack(of_images))
            for outputs, of_images in zip(levels, zip(*anchors, strict=True), strict=True)
        ]
        boxes, scores, labels = (torch.cat(x, 1) for x in zip(*found, strict=True))
        kept = suppressed(
            clipped(boxes, image_shapes),
            scores.unsqueeze(2),
            labels,
            score_threshold=-torch.inf,
            iou_threshold=self.nms_thresh,
            limit=self.detections_per_img,
        )
        return [x._asdict() for x in kept]

    def _best_of_level(
        self: Any, outputs: dict[str, Tensor], anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [N, k, 4], scores and labels [N, k] of a level's best candidates."""
        scores = _image_by_image(self._scores, outputs)
        classes = scores.shape[2]
        values, index = top_candidates(scores.flatten(1), self.score_thresh, self.topk_candidates)
        at = index // classes
        codes, anchors = boxes_at(outputs["bbox_regression"], at), boxes_at(anchors, at)
        boxes = self._decoded(codes.flatten(0, 1), anchors.flatten(0, 1)).view(codes.shape)
        return boxes, values, index % classes


def _image_by_image(
    compute: Callable[[dict[str, Tensor]], Tensor], outputs: dict[str, Tensor]
) -> Tensor:
    """As torchvision does, on a CPU: it rounds a tensor's last elements otherwise than the rest.

    They do not fill its vectors, and their sigmoid is that of single numbers. So what is last in a
    batch has to be what is last in an image.
    """
    images = outputs["cls_logits"]
    if images.device.type != "cpu":
        return compute(outputs)
    each = [{name: x[i] for name, x in outputs.items()} for i in range(len(images))]
    return torch.stack([compute(image) for image in each])


class RetinaNetDetections(_LevelDetections):
    """Lent to a RetinaNet."""

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        return torch.sigmoid(outputs["cls_logits"])

    def _decoded(self: Any, codes: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.box_coder.decode_single(codes, anchors)
        return boxes


class FCOSDetections(_LevelDetections):
    """Lent to an FCOS."""

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        of_class, of_center = outputs["cls_logits"], outputs["bbox_ctrness"]
        return torch.sqrt(torch.sigmoid(of_class) * torch.sigmoid(of_center))

    def _decoded(self: Any, codes: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.box_coder.decode(codes, anchors)
        return boxes


class RoIDetections(Batched):
    """Lent to the heads of an R-CNN."""

    def postprocess_detections(
        self: Any,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        if exporting():
            plain: Any = super().postprocess_detections  # type: ignore[misc]
            return plain(class_logits, box_regression, proposals, image_shapes)
        counts = [len(of_image) for of_image in proposals]
        # Without any proposal torchvision's coder does not say how many boxes each would have.
        boxes = self.box_coder.decode(box_regression, proposals).view(*class_logits.shape, 4)
        boxes = _by_image(boxes, counts, 0.0)
        scores = _by_image(F.softmax(class_logits, -1), counts, -torch.inf)
        classes = scores.shape[2]
        boxes = clipped(boxes.flatten(1, 2), image_shapes)
        scores = _without_background(scores).flatten(1)
        small = ~(boxes[..., 2:] - boxes[..., :2] >= SMALLEST_SIDE).all(2)  # or not a number
        labels = torch.arange(classes, device=boxes.device).repeat(max(counts))
        found = suppressed(
            boxes,
            scores.masked_fill(small, -torch.inf).unsqueeze(2),
            labels.expand(len(boxes), -1),
            score_threshold=self.score_thresh,
            iou_threshold=self.nms_thresh,
            limit=self.detections_per_img,
        )
        of_boxes, of_scores, of_labels = zip(*found, strict=True)
        return list(of_boxes), list(of_scores), list(of_labels)


def _without_background(scores: Tensor) -> Tensor:
    """Scores [..., C] whose first class is no candidate; in place where no gradient needs them."""
    scores = scores.clone() if scores.requires_grad else scores
    scores[..., 0] = -torch.inf
    return scores


def _by_image(rows: Tensor, counts: list[int], padding: float) -> Tensor:
    """[sum of counts, ...] as [images, most of the counts, ...]."""
    if len(set(counts)) == 1:
        return rows.view(len(counts), counts[0], *rows.shape[1:])
    return padded(list(rows.split(counts)), padding)
