"""Feature-map vectors of boxes, for detectors that classify every cell of several maps.

Anchors come in the order (level, row, column, anchor of the cell).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from detcenter.models.terms import BoxTerms, Positives


def matched_objects(
    targets: Sequence[dict[str, Tensor]], matched: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Label [N, A], box [N, A, 4] and index among all objects [N, A] of each anchor's match.

    Background anchors (``matched`` [N, A] negative) get label 0, a box that stands for none, and
    index -1.
    """
    labels = [target["labels"] for target in targets]
    boxes = [target["boxes"] for target in targets]
    counts = torch.tensor([len(x) for x in labels])
    first = (counts.cumsum(0) - counts).to(matched.device, non_blocking=True).unsqueeze(1)
    # Background reads the last row, which is no object's.
    index = torch.where(matched >= 0, matched + first, -1)
    all_labels = torch.cat([*labels, labels[0].new_zeros(1)])
    all_boxes = torch.cat([*boxes, boxes[0].new_tensor([[0.0, 0.0, 1.0, 1.0]])])
    return all_labels[index], all_boxes[index], index


def positive_cells(
    feature_maps: Sequence[Tensor],
    per_cell: Sequence[int],
    matches: tuple[Tensor, Tensor, Tensor],
    anchors: Tensor,
) -> list[Positives]:
    """The positive anchors of every level, described by the vector of their cell.

    Args:
        feature_maps: [N, D_l, H_l, W_l] a level.
        per_cell: anchors a cell, a level.
        matches: what :func:`matched_objects` returns.
        anchors: [N, A, 4].
    """
    sizes = _anchors_a_level(feature_maps, per_cell)
    levels = zip(*(column.split(sizes, 1) for column in (*matches, anchors)), strict=True)
    found = []
    for x, n, (y, box, object_index, anchor) in zip(feature_maps, per_cell, levels, strict=True):
        at = y.nonzero(as_tuple=True)
        vectors = x.flatten(2).transpose(1, 2)[at[0], at[1] // n]
        ious = pair_iou(anchor[at], box[at])
        found.append(Positives(vectors, y[at], object_index[at], ious))
    return found


# How many boxes are positive is known at run time only: one graph break instead of several.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def cell_losses(
    terms: BoxTerms,
    feature_maps: Sequence[Tensor],
    per_cell: Sequence[int],
    matches: tuple[Tensor, Tensor, Tensor],
    anchors: Tensor,
) -> dict[str, Tensor]:
    """The losses of ``terms`` on :func:`positive_cells` of the same arguments."""
    losses: dict[str, Tensor] = terms(positive_cells(feature_maps, per_cell, matches, anchors))
    return losses


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


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU [P] of boxes [P, 4] pair by pair, in float32 at least."""
    a, b = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (a, b))
    corner = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    shared = corner.clamp(min=0).prod(1)
    areas = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    return shared / (areas[0] + areas[1] - shared)


def _anchors_a_level(feature_maps: Sequence[Tensor], per_cell: Sequence[int]) -> list[int]:
    return [x[0, 0].numel() * n for x, n in zip(feature_maps, per_cell, strict=True)]
