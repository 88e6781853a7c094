"""Greedy suppression in a graph, for any number of images."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import nms

Suppression = Callable[[Tensor, Tensor, float, float, int], Tensor]


def suppressed(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, most: int
) -> Tensor:
    """The scores of what greedy suppression keeps of each image and label, -inf for the rest.

    It keeps what ``torchvision.ops.batched_nms`` keeps. No number in it depends on an input but by
    what a tensor's shape says, so that it can be traced and exported.

    Args:
        boxes: [N, K, 4], xyxy in pixels, not negative.
        scores: [N, L, K] of every label; candidates have one above ``score_threshold``.
        iou_threshold: what overlaps more with a better box of its label is dropped.
        most: what is beyond the so many best that are kept of a label may be dropped too.

    Returns:
        [N, L, K]
    """
    labels, count = scores.shape[1:]
    flat = scores.flatten()
    at = (flat > score_threshold).nonzero().squeeze(1)
    group, box = at // count, at // (labels * count) * count + at % count
    # Each image's labels are moved beyond the others'; in float64 that rounds no box.
    exact = boxes.double()
    gap = (group * (exact.amax() + 1)).unsqueeze(1)
    kept = at[nms(exact.flatten(0, 1)[box] + gap, flat[at].double(), iou_threshold)]
    return torch.full_like(flat, -torch.inf).scatter(0, kept, flat[kept]).view(scores.shape)
