"""The matching of SSD for a whole batch: no loop over images that waits for the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from detcenter.batched.boxes import pairwise_iou
from detcenter.batched.inputs import first_objects


def matches(boxes: Sequence[Tensor], anchors: Sequence[Tensor], threshold: float) -> Tensor:
    """For each anchor the object of its image that it is matched with, [N, A]; -1 for background.

    As torchvision's ``SSDMatcher``, ties included: an anchor goes to the object of the highest IoU,
    the first of several, if that is at least ``threshold``; but the best anchor of an object, the
    first of several, goes to that object, to the last one if it is the best of several.

    Args:
        boxes: of an image's objects, [M_i, 4] each, xyxy; M_i may be 0.
        anchors: [A, 4] an image. The same tensor for all is the fastest.
        threshold: of the IoU, 0..1.
    """
    counts = [len(of_image) for of_image in boxes]
    ious = _ious(boxes, anchors)
    # An image at a time, for one may have many times the objects of the others.
    nothing = ious.new_full(ious.shape[1:], -torch.inf), ious.new_full(ious.shape[1:], -1).long()
    best = [of.max(0) if len(of) else nothing for of in ious.split(counts)]
    values, objects = (torch.stack(x) for x in zip(*best, strict=True))
    matched = objects.where(~(values < threshold), -1)
    # Where an object's best anchor lies in [N, A], and which of its image's objects it is.
    rows = [(image, n) for image, count in enumerate(counts) for n in range(count)]
    image, number = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).unbind(1)
    image, number = (x.to(ious.device, non_blocking=True) for x in (image, number))
    forced = torch.full_like(matched, -1)
    at = ious.max(1).indices + image * ious.shape[1]
    forced.view(-1).scatter_reduce_(0, at, number, "amax")
    return forced.where(forced >= 0, matched)


def object_index(targets: Sequence[dict[str, Tensor]], matched: Tensor) -> Tensor:
    """``matched`` [N, A], numbers of an image's objects, as numbers of all objects; -1 stays."""
    first = first_objects(targets, matched.device).unsqueeze(1)
    return torch.where(matched >= 0, matched + first, -1)


def all_objects(targets: Sequence[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Labels [M + 1] and boxes [M + 1, 4] of all objects.

    The last row, which index -1 reads, is no object's: background, with a box of some area.
    """
    labels, boxes = ([target[key] for target in targets] for key in ("labels", "boxes"))
    no_box = torch.arange(4, device=boxes[0].device, dtype=boxes[0].dtype).unsqueeze(0)
    return torch.cat([*labels, labels[0].new_zeros(1)]), torch.cat([*boxes, no_box])


def _ious(boxes: Sequence[Tensor], anchors: Sequence[Tensor]) -> Tensor:
    """[M, A], of every object with the anchors of its image."""
    if all(of_image is anchors[0] for of_image in anchors):
        return pairwise_iou(torch.cat(list(boxes)), anchors[0])
    return torch.cat([pairwise_iou(b, a) for b, a in zip(boxes, anchors, strict=True)])
