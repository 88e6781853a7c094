"""Values on their way from the device, which goes on working meanwhile."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def on_the_way(tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """Have ``tensors`` copied to the CPU; what is returned waits for all of them and gives them.

    That is one wait, however many there are, and not for what the device is given later, which may
    change the tensors. Of a GPU the copies lie in pinned memory, which is scarce: clone what is to
    be kept.
    """
    # Elsewhere than on CUDA a copy that does not block says in no way when it is there.
    copies = [x.to("cpu", non_blocking=x.is_cuda, copy=True) for x in tensors]
    pinned = [x for x, copy in zip(tensors, copies, strict=True) if copy.is_pinned()]
    if not pinned:
        return lambda: copies
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(pinned[0].device))

    def arrived() -> list[Tensor]:
        copied.synchronize()
        return copies

    return arrived
