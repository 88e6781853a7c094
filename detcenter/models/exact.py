"""Coordinates in float32 under autocast.

torchvision makes anchors and decodes boxes in the dtype of the feature maps; in bfloat16 a
coordinate of 300 pixels is then rounded to a multiple of two, and so are the boxes of
the targets that are compared with it.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator

Model = TypeVar("Model", bound=nn.Module)


class ExactBoxGenerator(DefaultBoxGenerator):
    """SSD's default boxes."""

    def _grid_default_boxes(
        self,
        grid_sizes: list[list[int]],
        image_size: list[int],
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        return super()._grid_default_boxes(grid_sizes, image_size, _exact(dtype))


class ExactAnchorGenerator(AnchorGenerator):
    """Anchors of the R-CNNs and RetinaNet, points of FCOS."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(_exact(dtype), device)


class ExactBoxCoder(BoxCoder):
    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        return super().decode_single(rel_codes.to(_exact(rel_codes.dtype)), boxes)


class ExactBoxLinearCoder(BoxLinearCoder):
    def decode(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        return super().decode(rel_codes.to(_exact(rel_codes.dtype)), boxes)


_EXACT = {
    DefaultBoxGenerator: ExactBoxGenerator,
    AnchorGenerator: ExactAnchorGenerator,
    BoxCoder: ExactBoxCoder,
    BoxLinearCoder: ExactBoxLinearCoder,
}


def with_exact_boxes(model: Model) -> Model:
    """Exchange the classes of all anchor generators and box coders of ``model``, in place."""
    for module in model.modules():
        for part in (getattr(module, name, None) for name in ("anchor_generator", "box_coder")):
            if type(part) in _EXACT:
                part.__class__ = _EXACT[type(part)]
    return model


def _exact(dtype: torch.dtype) -> torch.dtype:
    """Float32 at least under autocast; a model that was moved to half precision stays whole."""
    return torch.promote_types(dtype, torch.float32) if _in_autocast() else dtype


def _in_autocast() -> bool:
    accelerator = torch.accelerator.current_accelerator()
    kinds = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    return any(torch.is_autocast_enabled(kind) for kind in kinds)
