"""Sums over the processes of a distributed training; with one process there is nothing to add."""

import torch
from torch import Tensor
from torch import distributed as dist


def process_count() -> int:
    """How many processes train together."""
    together = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if together else 1


@torch.no_grad()
def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of ``values`` of all processes. All of them have to call it, in the same order."""
    if process_count() == 1:
        return values
    summed = values.clone()
    dist.all_reduce(summed)
    return summed


def share_of(count: Tensor) -> Tensor:
    """What a sum over ``count`` things is divided by, so that the processes' mean is the mean.

    A mean over all things of all processes is the sum of their sums over the sum of their counts.
    DistributedDataParallel averages the processes' gradients, so each divides by the mean count.
    Where there is nothing at all it is 1.
    """
    total = sum_over_processes(count)
    return total.where(total > 0, 1.0) / process_count()
