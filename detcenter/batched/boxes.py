"""Arithmetic on boxes [..., 4], xyxy; torchvision's, one operation after the other."""

from collections.abc import Sequence

import torch
from torch import Tensor


def areas(boxes: Tensor) -> Tensor:
    """[...] of boxes [..., 4], in float32 at least."""
    boxes = _whole(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU [..., M, A] of boxes [..., M, 4] and others [..., A, 4], as ``box_iou`` has it.

    Of one coordinate at a time, which keeps memory in a row.
    """
    x1, y1, x2, y2 = boxes.unsqueeze(-2).unbind(-1)
    u1, v1, u2, v2 = others.mT.contiguous().unsqueeze(-2).unbind(-3)
    width = _whole(torch.minimum(x2, u2).sub_(torch.maximum(x1, u1))).clamp_(min=0)
    height = _whole(torch.minimum(y2, v2).sub_(torch.maximum(y1, v1))).clamp_(min=0)
    shared = width.mul_(height)
    return shared / (areas(boxes).unsqueeze(-1) + areas(others).unsqueeze(-2)).sub_(shared)


def boxes_at(boxes: Tensor, index: Tensor) -> Tensor:
    """[N, K, 4] of boxes [N, B, 4] at index [N, K]."""
    return boxes.gather(1, index.unsqueeze(2).expand(-1, -1, 4))


def clipped(boxes: Tensor, image_shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Boxes [N, B, 4] inside their images, each of (height, width) pixels."""
    corners = torch.tensor([[width, height] * 2 for height, width in image_shapes])
    most = corners.to(boxes.device, boxes.dtype, non_blocking=True).unsqueeze(1)
    return torch.minimum(boxes.clamp(min=0), most)


def _whole(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
