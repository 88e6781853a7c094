"""Sums over the processes of a distributed training; with one process there is nothing to add."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

Group = Any  # torch.distributed.ProcessGroup, which not every build of torch has


class Processes:
    """The processes that train one model together.

    Args:
        group: of torch.distributed; None is all processes of the job, or this one where nothing
            is distributed.

    A copy of it is the same group; a pickle, which may be read elsewhere, is of all processes.
    """

    def __init__(self, group: Group | None = None) -> None:
        self.group = group

    def count(self) -> int:
        together = dist.is_available() and dist.is_initialized()
        return max(1, dist.get_world_size(self.group)) if together else 1

    @torch.no_grad()
    def sum(self, values: Tensor) -> Tensor:
        """The sum of ``values`` of all processes, which all have to call it, in the same order."""
        if self.count() == 1:
            return values
        summed = values.clone()
        dist.all_reduce(summed, group=self.group)
        return summed

    def share(self, count: float, device: torch.device) -> Tensor | float:
        """What a sum over ``count`` things is divided by, so that the processes' mean is the mean.

        A mean over all things of all processes is the sum of their sums over the sum of their
        counts. DistributedDataParallel averages the processes' gradients, so each divides by the
        mean count. Where there is nothing at all it is not 0.
        """
        if self.count() == 1:
            return count or 1.0
        total = self.sum(torch.full((), float(count), device=device))
        return total.where(total > 0, 1.0) / self.count()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Processes":
        return self

    def __reduce__(self) -> tuple[type["Processes"], tuple[()]]:
        return Processes, ()
