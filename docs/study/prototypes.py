"""Lead 2 of the second study: train a one-stage detector whose classifier reads the centers.

    python docs/study/prototypes.py fixed|following|learnt|linear [--pull 0.3] --config ... [keys]

The layers that give class logits give a vector of 64 dimensions for each box (of FCOS: each point)
in their place. The logit of a class is 16 times the vector's cosine to the class's prototype. FCOS
and RetinaNet add one learnt number; the background of an SSD has a learnt prototype of its own. All
levels share the prototypes. "linear" is the control: the same vectors and as many weights, but a
product in place of the cosine; its pull is center loss with centers of its own. See protocol.md.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.ssd import SSD

from detcenter import CenterLoss, fast
from detcenter.recipe import detectors
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs.run import train

_DIM, _SCALE = 64, 16.0


def main() -> None:
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("prototypes", choices=("fixed", "following", "learnt", "linear"))
    own.add_argument("--pull", type=float, default=0.0)
    arguments, args = own.parse_known_args()
    config, _ = parse_recipe(recipe_parser("prototypes.py", "Lead 2 of the second study."), args)

    def exchanged(model: nn.Module) -> nn.Module:
        return with_prototypes(fast(model), arguments.prototypes, arguments.pull)

    detectors.fast = exchanged  # type: ignore[assignment]
    train(config, Path(cast(str, config.output)))


def with_prototypes(model: Any, kind: str, pull: float) -> nn.Module:
    """Exchange the class layers of an SSD, RetinaNet or FCOS over a backbone, in place."""
    head = model.head.classification_head
    sigmoids = not isinstance(model, SSD)
    layers = [head.cls_logits] if sigmoids else list(head.module_list)
    classes = head.num_classes if sigmoids else head.num_columns
    space = Prototypes(classes, kind, pull, background=not sigmoids)
    exchanged = [VectorLayer(layer, space) for layer in layers]
    if sigmoids:
        head.cls_logits = exchanged[0]
    else:
        head.module_list = nn.ModuleList(exchanged)
    matcher = model.head if sigmoids else model
    matcher.space = space
    own = type(matcher)
    matcher.__class__ = type(own.__name__, (_Pulled, own), {})
    return cast(nn.Module, model)


class Prototypes(nn.Module):
    """One direction a class [C, D], row 0 for the background; and the vectors of this step."""

    def __init__(self, num_classes: int, kind: str, pull: float, background: bool) -> None:
        super().__init__()
        start = torch.linalg.qr(torch.randn(_DIM, num_classes)).Q.T.contiguous()
        self.kind, self.pull = kind, pull
        self.centers = CenterLoss(num_classes, _DIM)
        self.centers.centers.copy_(start)
        learnt = kind in ("learnt", "linear")
        self.learnt = nn.Parameter(start.clone()) if learnt else None
        self.background = nn.Parameter(start[:1].clone()) if background else None
        self.bias = None if background else nn.Parameter(torch.tensor(-4.595))  # p = 0.01
        self.vectors: list[Tensor] = []

    def logits(self, vectors: Tensor) -> Tensor:
        """[N, A, D, H, W] → [N, A, C, H, W]."""
        if self.kind == "linear":
            logits = torch.einsum("nadhw,cd->nachw", vectors, self.rows())
        else:
            cosines = torch.einsum("nadhw,cd->nachw", F.normalize(vectors, dim=2), self.unit_rows())
            logits = _SCALE * cosines
        return logits if self.bias is None else logits + self.bias

    def unit_rows(self) -> Tensor:
        return F.normalize(self.rows(), dim=1)

    def rows(self) -> Tensor:
        rows = self.centers.centers.clone() if self.learnt is None else self.learnt
        if self.background is not None:
            rows = torch.cat([self.background, rows[1:]])
        return rows

    def loss(self, matched: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
        """Half the mean squared distance of positives to their prototypes; centers follow."""
        vectors, self.vectors = torch.cat(self.vectors, 1), []
        labels = [t["labels"][m[m >= 0]] for t, m in zip(targets, matched, strict=True)]
        positives = vectors[torch.stack(matched) >= 0]
        if self.kind == "linear":
            return self.pull * cast(Tensor, self.centers(positives, torch.cat(labels)))
        pulled = (positives - self.unit_rows()[torch.cat(labels)]).square().sum(1)
        if self.kind == "following":
            self.centers(positives.detach(), torch.cat(labels))
        return self.pull * 0.5 * pulled.sum() / max(1, len(pulled))


class VectorLayer(nn.Module):
    """Logits [N, A * C, H, W] by a vector of each box, in place of a convolution."""

    def __init__(self, layer: nn.Conv2d, space: Prototypes) -> None:
        super().__init__()
        self.boxes = layer.out_channels // space.centers.centers.shape[0]
        self.vector = nn.Conv2d(layer.in_channels, self.boxes * _DIM, 3, padding=1)
        self.space = space

    def forward(self, features: Tensor) -> Tensor:
        made = self.vector(features).unflatten(1, (self.boxes, _DIM))
        with torch.autocast(made.device.type, enabled=False):
            vectors = made.float()
            if self.training:
                of_boxes = F.normalize(vectors, dim=2).permute(0, 3, 4, 1, 2)
                self.space.vectors.append(of_boxes.flatten(1, 3))
            logits = self.space.logits(vectors)
        return logits.flatten(1, 2)


class _Pulled:
    """What computes the losses of its kind, with the pull added."""

    space: Prototypes

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        own: Any = super()
        losses = own.compute_loss(targets, head_outputs, anchors, matched_idxs)
        return losses | {"pull": self.space.loss(matched_idxs, targets)}


if __name__ == "__main__":
    sys.exit(main())
