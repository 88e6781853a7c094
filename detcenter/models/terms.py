"""Loss terms on the feature-map vectors of positive boxes, for detectors that classify per cell.

A term is called with one entry a feature level, ``features`` [P_l, D_l] and ``labels`` [P_l], and
returns its weighted losses by name. What feeds it (which boxes are positive, which vector is
theirs) is the family's business.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CellTerm(nn.Module):
    """A loss on the vectors themselves; each level has a loss of its own, as widths differ.

    The levels' losses are means over their positives and are averaged with the number of
    positives as weights, so that every positive box of the batch counts the same.
    """

    def __init__(self, name: str, losses: Sequence[nn.Module], weight: float) -> None:
        super().__init__()
        self.name = name
        self.losses = nn.ModuleList(losses)
        self.weight = weight

    def forward(self, features: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        positives = max(1, sum(len(level) for level in labels))
        levels = zip(self.losses, features, labels, strict=True)
        total = sum(loss(x, y) * (len(y) / positives) for loss, x, y in levels)
        return {f"loss_{self.name}": self.weight * total}


class LevelEmbedding(nn.Module):
    """A projection per level into one space, and a softmax over the classes in that space.

    Shapes:
        one entry a level, features [P_l, D_l] → embeddings [P, embedding_dim] of all levels
    """

    def __init__(self, widths: Sequence[int], embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(width, embedding_dim) for width in widths)
        # Background has no embedding, so the softmax runs over the other classes only.
        self.classifier = nn.Linear(embedding_dim, num_classes - 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        # Every projection runs, on no rows if need be, so that DDP finds a gradient for each.
        levels = zip(self.projections, features, strict=True)
        return torch.cat([project(x) for project, x in levels])

    def softmax_loss(self, embedded: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of the P positives, 0 if there are none."""
        total = F.cross_entropy(self.classifier(embedded), labels - 1, reduction="sum")
        return total / max(1, len(labels))


class EmbeddingTerm(nn.Module):
    """A loss in one space that all levels are projected into, and the softmax that spans it.

    Without the auxiliary softmax nothing would keep the projection from collapsing to a point. It
    has a key and a weight of its own, ``loss_embedding``, so that its effect can be told from the
    term's. The branch exists in training only.
    """

    def __init__(
        self,
        name: str,
        loss: nn.Module,
        weight: float,
        embedding: LevelEmbedding,
        embedding_weight: float,
    ) -> None:
        super().__init__()
        self.name = name
        self.loss = loss
        self.weight = weight
        self.embedding = embedding
        self.embedding_weight = embedding_weight

    def forward(self, features: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        embedded, target = self.embedding(features), torch.cat(labels)
        softmax = self.embedding.softmax_loss(embedded, target)
        return {
            f"loss_{self.name}": self.weight * self.loss(embedded, target),
            "loss_embedding": self.embedding_weight * softmax,
        }
