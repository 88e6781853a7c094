"""Losses that the study tried beside CenterLoss; see study.md for what came of them.

A recipe names them `loss: study_losses.ContrastiveCenterLoss`, with docs/study in PYTHONPATH.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from detcenter import CenterLoss


class ContrastiveCenterLoss(CenterLoss):
    """The distance to the own center over those to all others (Qi and Su, ICIP 2017, eq. 3).

    1/P sum_i |x_i - c_{y_i}|^2 / (sum_{j != y_i} |x_i - c_j|^2 / (C - 1) + delta), halved, on the
    unit sphere, with the centers of CenterLoss. Their sum over the others is a mean here, so that
    a weight means the same for any number of classes C.
    """

    def __init__(self, num_classes: int, feature_dim: int, delta: float = 0.1) -> None:
        super().__init__(num_classes, feature_dim, normalize=True)
        self.delta = delta

    def forward(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        centers = self.centers[1:].clone()
        super().forward(features, labels, weights)  # moves the centers
        with torch.autocast(features.device.type, enabled=False):
            features = F.normalize(features.float(), dim=1)
            distances = (features.unsqueeze(1) - centers).square().sum(2)  # [P, C]
            own = distances.gather(1, labels.unsqueeze(1) - 1).squeeze(1)
            others = (distances.sum(1) - own) / max(1, self.num_classes - 2)
            ratio = own / (others + self.delta)
            if weights is None:
                return ratio.sum() / max(1, len(ratio)) / 2
            return (ratio * weights).sum() / weights.sum().clamp(min=1e-6) / 2
