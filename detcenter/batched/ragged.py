"""Tensors of images that have different numbers of rows, as one tensor."""

import torch
from torch import Tensor


def padded(of_images: list[Tensor], padding: float = 0) -> Tensor:
    """[N, most rows of an image, ...] of tensors [R_n, ...]; in a few operations, however many."""
    counts = [len(rows) for rows in of_images]
    if len(set(counts)) == 1:
        return torch.stack(of_images)
    like = of_images[0]
    numbers = torch.tensor(counts)
    numbers = torch.stack([numbers, numbers.cumsum(0) - numbers]).unsqueeze(2)
    count, first = numbers.to(like.device, non_blocking=True)
    place = torch.arange(max(counts), device=like.device)
    index = torch.where(place < count, place + first, sum(counts))
    return torch.cat([*of_images, like.new_full((1, *like.shape[1:]), padding)])[index]


def without_padding(rows: Tensor, counts: list[int]) -> list[Tensor]:
    """The first rows of each image of [N, R, ...]."""
    return [of_image[:count] for of_image, count in zip(rows, counts, strict=True)]
