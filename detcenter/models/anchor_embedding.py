"""An SSD whose softmax reads a vector of every anchor, so that a term can act on just that."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD


class AnchorEmbeddingHead(nn.Module):
    """A 3x3 convolution a level to D values an anchor, and one linear softmax for all of them."""

    def __init__(
        self, channels: Sequence[int], anchors: Sequence[int], num_classes: int, dim: int
    ) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(
            nn.Conv2d(c, a * dim, 3, padding=1) for c, a in zip(channels, anchors, strict=True)
        )
        self.classifier = nn.Linear(dim, num_classes)
        self.dim, self.num_columns = dim, num_classes

    def embed(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[N, D, H, W * A] a level: anchors in the order (row, column, anchor of the cell)."""
        embedded = []
        for conv, x in zip(self.module_list, maps, strict=True):
            y = conv(x).unflatten(1, (-1, self.dim))  # [N, A, D, H, W]
            embedded.append(y.permute(0, 2, 3, 4, 1).flatten(3))
        return embedded

    def forward(self, maps: list[Tensor]) -> Tensor:
        vectors = torch.cat([x.flatten(2) for x in self.embed(maps)], dim=2).transpose(1, 2)
        logits: Tensor = self.classifier(vectors)
        return logits


def set_anchor_embedding(model: SSD, dim: int) -> SSD:
    """Exchange the classification head; in place, before anything is attached."""
    branches = model.head.classification_head.module_list
    channels = [branch.in_channels for branch in branches]
    anchors = model.anchor_generator.num_anchors_per_location()
    model.head.classification_head = AnchorEmbeddingHead(
        channels, anchors, model.head.classification_head.num_columns, dim
    )
    return model
