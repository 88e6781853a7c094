"""Feature-map vectors of boxes, for detectors that classify every cell of several maps.

Anchors come in the order (level, row, column, anchor of the cell).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from detcenter.batched.ssd_matching import all_objects, object_index
from detcenter.models.terms import Positives


def positive_cells(
    feature_maps: Sequence[Tensor],
    per_cell: Sequence[int],
    targets: Sequence[dict[str, Tensor]],
    anchors: Sequence[Tensor],
    matched_idxs: Sequence[Tensor],
) -> list[Positives]:
    """The positive anchors of every level, described by the vector of their cell.

    Args:
        feature_maps: [N, D_l, H_l, W_l] a level.
        per_cell: anchors a cell, a level.
        targets, anchors, matched_idxs: an image each, as torchvision's losses take them: anchors
            [A, 4] and the index of each one's box, [A], negative for background.
    """
    index = object_index(targets, torch.stack(list(matched_idxs)))
    labels, boxes = all_objects(targets)
    at, vectors = vectors_where(feature_maps, per_cell, labels[index] > 0)
    objects = index[at]  # of which none has label 0, which has no center
    ious = pair_iou(torch.stack(list(anchors))[at], boxes[objects])
    counts = [len(of_level) for of_level in vectors]
    columns = zip(*(x.split(counts) for x in (labels[objects], objects, ious)), strict=True)
    return [Positives(v, *of_level) for v, of_level in zip(vectors, columns, strict=True)]


def vectors_where(
    feature_maps: Sequence[Tensor], per_cell: Sequence[int], mask: Tensor
) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
    """The images and anchors [P] for which ``mask`` [N, A] holds, level by level, and the vectors
    of their cells, [P_l, D_l] a level.
    """
    sizes = _anchors_a_level(feature_maps, per_cell)
    image, anchor, cell, counts = _true_by_level(mask, sizes, per_cell)
    cells = zip(feature_maps, image.split(counts), cell.split(counts), strict=True)
    return (image, anchor), [x.flatten(2).transpose(1, 2)[of, at] for x, of, at in cells]


def _true_by_level(
    mask: Tensor, sizes: list[int], per_cell: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Where ``mask`` [N, A] holds, level by level: images, anchors, cells of the level, all [P].

    And how many of them are on each level, for which alone the host waits.
    """
    images, device = len(mask), mask.device
    sums = torch.cat([part.flatten() for part in mask.split(sizes, 1)]).cumsum(0)
    levels = torch.tensor([sizes, list(per_cell)])
    ends = levels[0].cumsum(0)
    levels = torch.stack([*levels, ends - levels[0], images * ends - 1])
    size, of_cell, first, last = levels.to(device, non_blocking=True)
    until = sums[last].tolist()
    counts = [n - before for n, before in zip(until, [0, *until], strict=False)]
    # The n-th that holds is the first place with a sum of n.
    rows = torch.searchsorted(sums, torch.arange(1, until[-1] + 1, device=device))
    level = torch.searchsorted(last, rows)
    size, of_cell, first = (x[level] for x in (size, of_cell, first))
    rows = rows - images * first
    anchor = rows % size
    return rows // size, first + anchor, anchor // of_cell, counts


def vectors_at(
    feature_maps: Sequence[Tensor], per_cell: Sequence[int], chosen: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Per level, which of M boxes lie there, [M_l], and the vectors of their cells, [M_l, D_l].

    Args:
        chosen: for each image the anchors that stand for its boxes; M of all images.
    """
    anchor = torch.cat(list(chosen))
    image = torch.cat([torch.full_like(found, i) for i, found in enumerate(chosen)])
    found = []
    start = 0
    sizes = _anchors_a_level(feature_maps, per_cell)
    for x, n, size in zip(feature_maps, per_cell, sizes, strict=True):
        (here,) = ((anchor >= start) & (anchor < start + size)).nonzero(as_tuple=True)
        cells = (anchor[here] - start) // n
        found.append((here, x.flatten(2).transpose(1, 2)[image[here], cells]))
        start += size
    return found


def best_anchors(anchors: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
    """For each image's boxes [N, 4] the anchor of the highest IoU; if all are 0 the nearest."""
    pairs = zip(boxes, anchors, strict=True)
    return [_best_anchor(a.to(b.dtype), b) for b, a in pairs]


def _best_anchor(anchors: Tensor, boxes: Tensor) -> Tensor:
    best, index = box_iou(boxes, anchors).max(1)
    here, there = ((x[:, :2] + x[:, 2:]) / 2 for x in (boxes, anchors))
    return index.where(best > 0, torch.cdist(here, there).argmin(1))


def responsible_points(anchors: list[Tensor], boxes: list[Tensor], radius: float) -> list[Tensor]:
    """For each image's boxes [N, 4] the point, [N], that FCOS would hold responsible.

    Of the points that training would match with the box, were it alone, the nearest to its center.
    A box that none matches (a thin one may lie between all points) gets the nearest point of the
    level for its size.
    """
    pairs = zip(anchors, boxes, strict=True)
    return [_responsible_point(a.to(b.dtype), b, radius) for a, b in pairs]


def _responsible_point(anchors: Tensor, boxes: Tensor, radius: float) -> Tensor:
    strides = anchors[:, 2] - anchors[:, 0]
    finest, coarsest = strides == strides.min(), strides == strides.max()
    least = torch.where(finest, 0.0, 4 * strides)
    most = torch.where(coarsest, torch.inf, 8 * strides)
    points, centers = ((x[:, :2] + x[:, 2:]) / 2 for x in (anchors, boxes))
    distance = torch.cdist(centers, points, p=torch.inf)
    # left, top, right and bottom as FCOS regresses them, [N, A, 4]
    sides = torch.cat([points - boxes[:, None, :2], boxes[:, None, 2:] - points], 2)
    reach = sides.amax(2)
    matched = (distance < radius * strides) & (sides.amin(2) > 0) & (reach > least) & (reach < most)
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    level = torch.where(half < most, strides, strides.max()).amin(1, keepdim=True)
    allowed = matched | (~matched.any(1, keepdim=True) & (strides == level))
    return distance.masked_fill(~allowed, torch.inf).argmin(1)


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU [P] of boxes [P, 4] pair by pair, in float32 at least."""
    a, b = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (a, b))
    corner = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    shared = corner.clamp(min=0).prod(1)
    areas = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    return shared / (areas[0] + areas[1] - shared)


def _anchors_a_level(feature_maps: Sequence[Tensor], per_cell: Sequence[int]) -> list[int]:
    return [x[0, 0].numel() * n for x, n in zip(feature_maps, per_cell, strict=True)]
