"""Arms of the second study that no user needs; see protocol.md.

PYTHONPATH=docs/study, and ``terms.one.loss=controls.OneCenter`` in a recipe.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import roi_heads

from detcenter import CenterLoss


class OneCenter(CenterLoss):
    """Center loss that knows no classes: all boxes are drawn to one center."""

    def forward(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        return super().forward(features, torch.ones_like(labels), weights)


class LabelSmoothing(nn.Module):
    """No loss on features: once made, an R-CNN's class loss of this process smooths its labels.

    It takes the place of torchvision's ``fastrcnn_loss``; Szegedy et al., CVPR 2016, section 7.
    Take it at weight 0.
    """

    def __init__(self, amount: float = 0.1) -> None:
        super().__init__()

        def smoothed(
            logits: Tensor, codes: Tensor, labels: list[Tensor], wanted: list[Tensor]
        ) -> tuple[Tensor, Any]:
            _, of_boxes = _PLAIN(logits, codes, labels, wanted)
            return F.cross_entropy(logits, torch.cat(labels), label_smoothing=amount), of_boxes

        roi_heads.fastrcnn_loss = smoothed

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        return features.sum() * 0


_PLAIN = roi_heads.fastrcnn_loss
