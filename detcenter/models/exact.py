"""Coordinates in float32 under autocast.

torchvision makes anchors and decodes boxes in the dtype of the feature maps; in bfloat16 a
coordinate of 300 pixels is then rounded to a multiple of two, and so are the boxes of
the targets that are compared with it.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator

from detcenter.adoption import Adopted, adopt, own_class, release
from detcenter.batched.anchors import in_autocast

Model = TypeVar("Model", bound=nn.Module)


class Exact(Adopted):
    """An anchor generator or a box coder that computes in float32 at least under autocast."""

    def _grid_default_boxes(
        self,
        grid_sizes: list[list[int]],
        image_size: list[int],
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        boxes: Any = super()._grid_default_boxes  # type: ignore[misc]
        return boxes(grid_sizes, image_size, _exact(dtype))

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(_exact(dtype), device)  # type: ignore[misc]

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        decode: Any = super().decode_single  # type: ignore[misc]
        return decode(rel_codes.to(_exact(rel_codes.dtype)), boxes)

    def decode(self, rel_codes: Tensor, boxes: Any) -> Tensor:
        decode: Any = super().decode  # type: ignore[misc]
        return decode(rel_codes.to(_exact(rel_codes.dtype)), boxes)


def with_exact_boxes(model: Model) -> Model:
    """Make torchvision's anchor generators and box coders in ``model`` exact, in place."""
    for part in _parts(model):
        if own_class(part) in (DefaultBoxGenerator, AnchorGenerator, BoxCoder, BoxLinearCoder):
            adopt(part, Exact)
    return model


def without_exact_boxes(model: Model) -> Model:
    """Undo :func:`with_exact_boxes`: TorchScript, say, takes no such classes."""
    for part in _parts(model):
        release(part, Exact)
    return model


def _parts(model: nn.Module) -> list[Any]:
    names = ("anchor_generator", "box_coder")
    return [getattr(module, name, None) for module in model.modules() for name in names]


def _exact(dtype: torch.dtype) -> torch.dtype:
    """Float32 at least under autocast; a model that was moved to half precision stays whole."""
    return torch.promote_types(dtype, torch.float32) if in_autocast() else dtype
