"""The head of an SSD whose softmax reads a vector of every anchor, for a term to act on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AnchorEmbedding(nn.Module):
    """A vector of D values for every anchor, and one linear softmax that reads them all.

    In the place of torchvision's classification head, whose branches give the logits of a cell's
    anchors straight from its feature vector. All levels and anchor shapes share the softmax, and
    so one space.

    Args:
        branches: one a level, [N, D_l, H, W] → [N, A_l * D, H, W].
        dim: D.
        num_classes: with background.
    """

    def __init__(self, branches: Sequence[nn.Module], dim: int, num_classes: int) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(branches)
        self.classifier = nn.Linear(dim, num_classes)

    @property
    def dim(self) -> int:
        return self.classifier.in_features

    @property
    def num_columns(self) -> int:
        """The number of classes, as torchvision's heads call it."""
        return self.classifier.out_features

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps [N, D_l, H_l, W_l] → vectors [N, D, H_l, W_l * A_l], a column for every anchor."""
        embedded = []
        for branch, x in zip(self.module_list, maps, strict=True):
            by_anchor = branch(x).unflatten(1, (-1, self.dim))  # [N, A_l, D, H_l, W_l]
            embedded.append(by_anchor.permute(0, 2, 3, 4, 1).flatten(3))
        return embedded

    def logits(self, embedded: Sequence[Tensor]) -> Tensor:
        """[N, A, num_classes], anchors in the order (level, row, column, anchor of the cell)."""
        vectors = torch.cat([x.flatten(2) for x in embedded], dim=2).transpose(1, 2)
        logits: Tensor = self.classifier(vectors.flatten(0, 1))
        return logits.unflatten(0, vectors.shape[:2])


class AnchorEmbeddingHead(nn.Module):
    """What an SSD's head returns, with the vectors that were classified as ``features``."""

    def __init__(self, classification_head: AnchorEmbedding, regression_head: nn.Module) -> None:
        super().__init__()
        self.classification_head = classification_head
        self.regression_head = regression_head

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor | list[Tensor]]:
        embedded = self.classification_head(maps)
        return {
            "bbox_regression": self.regression_head(maps),
            "cls_logits": self.classification_head.logits(embedded),
            "features": embedded,
        }
