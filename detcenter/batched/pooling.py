"""Pooling of an R-CNN's boxes from the maps of a pyramid; the host waits once, not once a map."""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import roi_align

from detcenter.batched.lent import Batched


class Pooling(Batched):
    """Lent to a ``MultiScaleRoIAlign``. On CUDA only: on a CPU nothing waits."""

    def forward(
        self: Any,
        x: dict[str, Tensor],
        boxes: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> Any:
        # The first time torchvision finds the scales of the maps.
        if boxes[0].is_cpu or self.map_levels is None:
            return super().forward(x, boxes, image_shapes)  # type: ignore[misc]
        maps = [x[name] for name in x if name in self.featmap_names]
        levels = self.map_levels(boxes)
        return pooled(maps, boxes, levels, self.scales, self.output_size, self.sampling_ratio)


def pooled(
    maps: list[Tensor],
    boxes: list[Tensor],
    levels: Tensor,
    scales: list[float],
    output_size: tuple[int, int],
    sampling_ratio: int,
) -> Tensor:
    """``roi_align`` of each box from its own map.

    Args:
        maps: [N, D, H_l, W_l] a level.
        boxes: of each image, R of all.
        levels: of each box, [R].
        scales: a level, of the maps relative to the images.

    Returns:
        [R, D, *output_size].
    """
    counts = (levels.unsqueeze(1) == torch.arange(len(maps), device=levels.device)).sum(0).tolist()
    images = [torch.full_like(of_image[:, :1], n) for n, of_image in enumerate(boxes)]
    rois = torch.cat([torch.cat(images), torch.cat(boxes)], 1)
    found = maps[0].new_zeros(len(rois), maps[0].shape[1], *output_size)
    indices = levels.argsort(stable=True).split(counts)
    for of_level, index, scale in zip(maps, indices, scales, strict=True):
        part = roi_align(of_level, rois[index], output_size, scale, sampling_ratio)
        found[index] = part.to(found.dtype)
    return found
