"""State that stays in float32 when a model is moved to half precision."""

from collections.abc import Callable

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def unless_halved(convert: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A conversion of ``nn.Module._apply`` that halves nothing; devices and float64 pass."""

    def converted(tensor: Tensor) -> Tensor:
        moved = convert(tensor)
        halved = moved.dtype in _HALF and tensor.dtype not in _HALF
        return tensor.to(moved.device) if halved else moved

    return converted
