"""Which object each anchor, point or proposal is matched with, for a batch without waiting.

Matches are torchvision's exactly, ties included: the arithmetic is the same, one operation after
the other.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from detcenter.adoption import own_class
from detcenter.batched.boxes import areas, pairwise_iou
from detcenter.batched.lent import Batched
from detcenter.batched.ragged import padded, without_padding

_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 24}  # pairs of object and anchor


class RetinaNetMatching(Batched):
    """Lent to a RetinaNet."""

    def compute_loss(
        self: Any,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
    ) -> Any:
        if own_class(self.proposal_matcher) is not Matcher:
            return super().compute_loss(targets, head_outputs, anchors)  # type: ignore[misc]
        matches = matched([t["boxes"] for t in targets], anchors, self.proposal_matcher)
        return self.head.compute_loss(targets, head_outputs, anchors, list(matches))


class FCOSMatching(Batched):
    """Lent to an FCOS."""

    def compute_loss(
        self: Any,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> Any:
        boxes = [target["boxes"] for target in targets]
        radius = self.center_sampling_radius
        matches = responsible(boxes, anchors, num_anchors_per_level, radius)
        return self.head.compute_loss(targets, head_outputs, anchors, list(matches))


class RPNMatching(Batched):
    """Lent to a region proposal network."""

    def assign_targets_to_anchors(
        self: Any, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        own = own_class(self.proposal_matcher) is Matcher and self.box_similarity is box_iou
        if not own:
            return super().assign_targets_to_anchors(anchors, targets)  # type: ignore[misc, no-any-return]
        boxes = [target["boxes"] for target in targets]
        matches = matched(boxes, anchors, self.proposal_matcher)
        ignored = matches == Matcher.BETWEEN_THRESHOLDS
        labels = (matches >= 0).float().masked_fill_(ignored, -1.0)
        return list(labels), list(_of_objects(boxes, matches.clamp_(min=0)))


class RoIMatching(Batched):
    """Lent to the heads of an R-CNN."""

    def assign_targets_to_proposals(
        self: Any, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        if own_class(self.proposal_matcher) is not Matcher:
            return super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)  # type: ignore[misc, no-any-return]
        matches = matched(gt_boxes, proposals, self.proposal_matcher)
        background = matches == Matcher.BELOW_LOW_THRESHOLD
        ignored = matches == Matcher.BETWEEN_THRESHOLDS
        matches.clamp_(min=0)
        labels = _of_objects(gt_labels, matches).long()
        labels.masked_fill_(background, 0).masked_fill_(ignored, -1)
        counts = [len(of_image) for of_image in proposals]
        return without_padding(matches, counts), without_padding(labels, counts)


def matched(boxes: list[Tensor], anchors: list[Tensor], matcher: Any) -> Tensor:
    """What torchvision's ``Matcher`` makes of the IoU of each image's boxes and anchors.

    Args:
        boxes: of the objects of each of N images, [M_n, 4], xyxy.
        anchors: of each image, [A_n, 4].
        matcher: a ``Matcher``.

    Returns:
        [N, A], A the most of an image: the object of each anchor, negative where there is none.
        What is behind an image's last anchor has no meaning.
    """
    others = padded(anchors)
    if not others.shape[1]:
        return others.new_zeros(len(boxes), 0, dtype=torch.int64)
    found = [
        _matched(objects, present, others[images], matcher)
        for images, objects, present in _groups(boxes, others)
    ]
    return torch.cat(found)


def _matched(objects: Tensor, present: Tensor | None, anchors: Tensor, matcher: Any) -> Tensor:
    quality = pairwise_iou(objects, anchors)
    highest = None
    if matcher.allow_low_quality_matches:
        highest = quality.amax(2, keepdim=True)
    if present is not None:
        absent = ~present.unsqueeze(2)
        quality.masked_fill_(absent, -torch.inf)
        highest = None if highest is None else highest.masked_fill_(absent, torch.inf)
    values, index = quality.max(1)
    matches = index.masked_fill(values < matcher.high_threshold, Matcher.BETWEEN_THRESHOLDS)
    matches.masked_fill_(values < matcher.low_threshold, Matcher.BELOW_LOW_THRESHOLD)
    if highest is None:
        return matches
    # An anchor that is the best of any object, or one of several equal ones, is matched after all.
    return torch.where((quality == highest).any(1), index, matches)


def responsible(
    boxes: list[Tensor], anchors: list[Tensor], per_level: Sequence[int], radius: float
) -> Tensor:
    """The object [N, A] that each point of FCOS is matched with, -1 where there is none.

    Args:
        boxes: of the objects of each of N images, [M_n, 4], xyxy.
        anchors: squares around the points, [A, 4] of each image, with sides of the stride.
        per_level: points a level, of which the first has no lower and the last no upper bound.
        radius: how far from an object's center, in strides.
    """
    squares = torch.stack(anchors)
    found = [
        _responsible(objects, squares[images], per_level, radius)
        for images, objects, _ in _groups(boxes, squares)
    ]
    return torch.cat(found)


def _responsible(
    objects: Tensor, squares: Tensor, per_level: Sequence[int], radius: float
) -> Tensor:
    strides = squares[..., 2] - squares[..., 0]
    least, most = strides * 4, strides * 8
    least[:, : per_level[0]] = 0
    most[:, -per_level[-1] :] = torch.inf
    x, y = ((squares[..., :2] + squares[..., 2:]) / 2).unsqueeze(1).unbind(3)
    (x0, y0, x1, y1), area = objects.unsqueeze(2).unbind(3), areas(objects).unsqueeze(2)
    middle_x, middle_y = ((objects[..., :2] + objects[..., 2:]) / 2).unsqueeze(2).unbind(3)
    away = torch.maximum((x - middle_x).abs_(), (y - middle_y).abs_())
    match = away < (radius * strides).unsqueeze(1)
    left, top, right, bottom = x - x0, y - y0, x1 - x, y1 - y
    nearest = torch.minimum(torch.minimum(left, top), torch.minimum(right, bottom))
    farthest = torch.maximum(torch.maximum(left, top), torch.maximum(right, bottom))
    match &= nearest > 0
    match &= (farthest > least.unsqueeze(1)) & (farthest < most.unsqueeze(1))
    # Of several objects the smallest.
    values, index = (match.float() * (1e8 - area)).max(1)
    return index.masked_fill_(values < 1e-5, -1)


def _groups(boxes: list[Tensor], anchors: Tensor) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Images that are matched at once, their boxes [n, M, 4], and which of these there are.

    As many as memory and, on a CPU, the caches like. M is at least 1, which changes nothing: a box
    of no size has no IoU, and no point in it.
    """
    most = _AT_ONCE.get(anchors.device.type, _AT_ONCE["cuda"])
    counts = [len(of_image) for of_image in boxes]
    size = max(1, most // (max(1, *counts) * anchors.shape[1]))
    for start in range(0, len(boxes), size):
        images = slice(start, start + size)
        objects, present = padded(boxes[images]), None
        if not objects.shape[1]:
            objects = objects.new_zeros(len(objects), 1, 4)
        places = torch.arange(objects.shape[1])
        there = places < torch.tensor(counts[images]).unsqueeze(1)
        if not there.all():
            present = there.to(anchors.device, non_blocking=True)
        yield images, objects, present


def _of_objects(values: list[Tensor], index: Tensor) -> Tensor:
    """For each index [N, A] the value of that object of its image, 0 of an image that has none."""
    rows = padded(values)
    if not rows.shape[1]:
        return rows.new_zeros(*index.shape, *rows.shape[2:])
    first = torch.arange(len(values), device=index.device).unsqueeze(1) * rows.shape[1]
    return rows.flatten(0, 1)[index + first]
