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


class CompetitiveCenters(CenterLoss):
    """Cross entropy of a softmax over ``scale`` times the cosine to every center seen so far.

    The centers follow as they do in center loss, and get no gradient. A box whose class has no
    center yet counts 0.

    Args:
        num_classes, feature_dim: see CenterLoss.
        scale: of the cosines; on the unit sphere it is also that of half the squared distances.
        pull: weight of center loss itself beside it.
    """

    def __init__(
        self, num_classes: int, feature_dim: int, scale: float = 16.0, pull: float = 0.0
    ) -> None:
        super().__init__(num_classes, feature_dim)
        self.scale, self.pull = scale, pull

    def forward(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        seen = self.centers.norm(dim=1) > 0
        cosines = F.normalize(features.float(), dim=1) @ self.centers.T.clone()
        logits = (self.scale * cosines).masked_fill(~seen, -torch.inf)
        known = seen[labels]
        safe = logits.where(known.unsqueeze(1), 0.0)
        losses = F.cross_entropy(safe, labels, reduction="none").where(known, 0.0)
        pulled = super().forward(features, labels, weights)  # the centers move after all is read
        return losses.sum() / max(1, len(labels)) + self.pull * pulled


class FallingCenterLoss(CenterLoss):
    """Center loss whose weight falls from 1, linearly, to 0 in the second half of the training.

    Args:
        num_classes, feature_dim: see CenterLoss.
        steps: of the training.
    """

    def __init__(self, num_classes: int, feature_dim: int, steps: int) -> None:
        super().__init__(num_classes, feature_dim)
        self.steps = steps
        self.register_buffer("done", torch.zeros(()))

    def forward(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        weight = (2 - 2 * self.done / self.steps).clamp(0, 1)
        if self.training and torch.is_grad_enabled():
            self.done += 1
        return weight * super().forward(features, labels, weights)
