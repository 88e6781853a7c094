"""Coordinates in float32 whatever the features' dtype.

torchvision makes anchors and decodes boxes in the dtype of the feature maps; in bfloat16, as under
autocast, a coordinate of 300 pixels is then rounded to a multiple of two, and so are the boxes of
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
        return super()._grid_default_boxes(grid_sizes, image_size, torch.float32)


class ExactAnchorGenerator(AnchorGenerator):
    """Anchors of the R-CNNs and RetinaNet, points of FCOS."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)


class ExactBoxCoder(BoxCoder):
    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        return super().decode_single(_exact(rel_codes), boxes)


class ExactBoxLinearCoder(BoxLinearCoder):
    def decode(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        return super().decode(_exact(rel_codes), boxes)


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


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
