"""Loss terms on the features of matched positive boxes, whatever detector they come from.

A family of detectors says which boxes are positive and which vector is theirs (`Positives`, one
a feature level); what is done with them is decided here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcenter.losses import CenterLoss, Processes
from detcenter.losses.precision import unless_halved
from detcenter.losses.processes import Group
from detcenter.losses.steps import Holding, in_training


class Positives(NamedTuple):
    """The matched positive boxes (anchors, points, proposals) of one feature level, in a batch."""

    features: Tensor
    """[P, D]"""
    labels: Tensor
    """[P], from 1"""
    objects: Tensor
    """[P], which of the batch's objects each is matched with"""
    ious: Tensor
    """[P], its IoU with that object"""


class BoxTerms(nn.ModuleDict):
    """The terms of a model by name, and under ``embedding`` the space that some of them share."""

    def forward(self, levels: list[Positives]) -> dict[str, Tensor]:
        """The weighted losses of a batch, ``loss_<name>`` each."""
        losses, embedded = {}, levels
        if "embedding" in self:
            embedding = cast(LevelEmbedding, self["embedding"])
            embedded = [embedding(levels)]
        for name, term in self.terms():
            losses[f"loss_{name}"] = term(embedded if term.embedded else levels)
        if "embedding" in self:
            losses["loss_embedding"] = embedding.softmax_loss(*embedded)
        return losses

    def named(self, name: str | None) -> "BoxTerm | None":
        """The term ``name``; for None the first one, if there is any.

        Raises:
            ValueError: if there is no term of that name.
        """
        terms = dict(self.terms())
        if name is None:
            return next(iter(terms.values()), None)
        if name not in terms:
            known = ", ".join(terms) or "none"
            raise ValueError(f"no term {name!r} is attached; there are: {known}")
        return terms[name]

    def terms(self) -> list[tuple[str, "BoxTerm"]]:
        """By name, without the embedding."""
        return [(name, term) for name, term in self.items() if isinstance(term, BoxTerm)]


class BoxTerm(Holding):
    """A weighted loss on the features of positive boxes.

    Args:
        losses: one for all levels, or one a level where their widths differ. The levels' losses
            are means over their positives and are averaged with the number of positives, in all
            processes, as weights, so that every positive box of the batch counts the same.
        weight: of the loss, once ``warmup_steps`` are over.
        embedded: whether it reads the model's embedding rather than the detector's own vectors.
        warmup_steps, start_step: for ``start_step`` training steps the weight is 0, then it rises
            linearly over ``warmup_steps``. The loss is called all the while, so that its centers
            follow the features from the first step on.
        min_iou: positives below this IoU with their object are left out.
        per_object: every object counts once, however many boxes were matched with it. The loss is
            then called as ``loss(features, labels, weights)``.
        process_group: of torch.distributed, the processes that train the model together; None is
            all of the job.
    """

    step: Tensor

    def __init__(
        self,
        losses: Sequence[nn.Module],
        weight: float,
        *,
        embedded: bool = False,
        warmup_steps: int = 0,
        start_step: int = 0,
        min_iou: float = 0.0,
        per_object: bool = False,
        process_group: Group | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ValueError(f"weights are finite and not negative: {weight=}")
        if warmup_steps < 0 or start_step < 0:
            raise ValueError(f"steps are not negative: {warmup_steps=}, {start_step=}")
        if not 0 <= min_iou <= 1:
            raise ValueError(f"min_iou lies in 0..1, not {min_iou}")
        self.losses = nn.ModuleList(losses)
        self.weight = weight
        self.embedded = embedded
        self.warmup_steps = warmup_steps
        self.start_step = start_step
        self.min_iou = min_iou
        self.per_object = per_object
        self.processes = Processes(process_group)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, levels: list[Positives]) -> Tensor:
        levels = [_above(level, self.min_iou) for level in levels]
        if len(self.losses) == 1:
            levels = [joined(levels)]
        weight = self.weight * self._ramp()
        if in_training(self) and not self.held:
            self.step += 1
        if torch.is_tensor(weight):
            # Nor does a gradient that is not finite get through at weight 0.
            rises = weight > 0
            levels = [_replaced(x, x.features.detach().where(~rises, x.features)) for x in levels]
            return (weight * self._mean(levels)).where(rises, 0.0)
        if weight > 0:
            return weight * self._mean(levels)
        self._mean([_replaced(x, x.features.detach()) for x in levels])  # its centers follow
        return _nothing(self.losses, *(x.features for x in levels))

    def _mean(self, levels: list[Positives]) -> Tensor:
        """Of the losses, over the positives of all levels."""
        weights: Sequence[Tensor | None] = [None] * len(levels)
        if self.per_object:
            weights = _once_an_object([level.objects for level in levels])
        parts = self._parts(levels, weights)
        fourfold = zip(self.losses, levels, weights, parts, strict=True)
        means = [_call(f, x, w) * part for f, x, w, part in fourfold]
        return torch.stack(means).sum() if len(means) > 1 else means[0]

    def _parts(
        self, levels: list[Positives], weights: Sequence[Tensor | None]
    ) -> Sequence[Tensor | float]:
        """How much of all that is counted, in all processes, lies on each level."""
        together = in_training(self) and self.processes.count() > 1
        numbers = [len(x.labels) for x in levels]
        if not (self.per_object or together):
            return [number / max(1, sum(numbers)) for number in numbers]
        if self.per_object:
            counts = torch.stack([w.sum() for w in weights if w is not None])
        else:
            x = levels[0].features
            dtype = torch.promote_types(x.dtype, torch.float32)
            counts = torch.tensor(numbers, dtype=dtype).to(x.device, non_blocking=True)
        counts = self.processes.sum(counts) if together else counts
        return list(counts / counts.sum().clamp(min=1))

    def _ramp(self) -> Tensor | float:
        if self.warmup_steps:
            return ((self.step - self.start_step) / self.warmup_steps).clamp(0, 1)
        return (self.step >= self.start_step).float() if self.start_step else 1.0

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BoxTerm":
        """A loss that has weights gets features in float32, so these are not halved."""
        super()._apply(unless_halved(fn), recurse)
        return self


@dataclass(frozen=True)
class Embedding:
    """One space into which the vectors of all levels are projected, and its auxiliary softmax."""

    dim: int = 64
    """D of the space"""
    weight: float = 1.0
    """of the softmax over the classes, which keeps the projections from collapsing to a point"""

    def __post_init__(self) -> None:
        if self.dim < 1 or not 0 <= self.weight < math.inf:
            raise ValueError(
                "an embedding has at least 1 dimension, and its weight is finite and not negative, "
                f"not {self}"
            )


class LevelEmbedding(nn.Module):
    """A projection per level into one space, and a softmax over the classes in that space.

    Without the auxiliary softmax nothing would keep the projections from collapsing to a point.

    Shapes:
        one entry a level with features [P_l, D_l] → one with features [P, embedding.dim]
    """

    def __init__(
        self,
        widths: Sequence[int],
        num_classes: int,
        embedding: Embedding,
        process_group: Group | None = None,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.processes = Processes(process_group)
        self.projections = nn.ModuleList(nn.Linear(width, embedding.dim) for width in widths)
        # Background has no embedding, so the softmax runs over the other classes only.
        self.classifier = nn.Linear(embedding.dim, num_classes - 1)

    def forward(self, levels: list[Positives]) -> Positives:
        # Every projection runs, on no rows if need be, so that DDP finds a gradient for each.
        pairs = zip(self.projections, levels, strict=True)
        return joined([_replaced(x, _projected(f, x.features)) for f, x in pairs])

    def projected(self, levels: Sequence[Tensor]) -> Tensor:
        """The vectors of all levels, [..., P_l, D_l] a level, in the one space, [..., P, dim]."""
        pairs = zip(self.projections, levels, strict=True)
        return torch.cat([_projected(f, x) for f, x in pairs], -2)

    def softmax_loss(self, embedded: Positives) -> Tensor:
        """Weighted mean cross entropy of the P positives, 0 if there are none."""
        logits, labels = self.classifier(embedded.features), embedded.labels.long()
        total = F.cross_entropy(logits, labels - 1, reduction="sum")
        count = len(labels)
        share = self.processes.share(count, total.device) if in_training(self) else max(1, count)
        return self.embedding.weight * total / share


def joined(levels: Sequence[Positives]) -> Positives:
    """All levels as one; their widths must be equal."""
    return levels[0] if len(levels) == 1 else Positives(*map(torch.cat, zip(*levels, strict=True)))


def _above(level: Positives, min_iou: float) -> Positives:
    if min_iou == 0:
        return level
    keep = level.ious >= min_iou
    return Positives(*(values[keep] for values in level))


def _once_an_object(objects: list[Tensor]) -> list[Tensor]:
    """For each positive 1 / (how many positives of all levels its object has)."""
    _, inverse, counts = torch.cat(objects).unique(return_inverse=True, return_counts=True)
    return list((1 / counts[inverse]).split([len(level) for level in objects]))


def _projected(layer: Any, features: Tensor) -> Tensor:
    projected: Tensor = layer(features.to(layer.weight.dtype))
    return projected


def _replaced(level: Positives, features: Tensor) -> Positives:
    return level._replace(features=features)


def _nothing(losses: nn.Module, *features: Tensor) -> Tensor:
    """A zero with a graph to all that a loss would have reached."""
    reached = [*features, *losses.parameters()]
    return torch.stack([x[:0].sum() if x.dim() else x * 0 for x in reached]).sum()


def _call(loss: nn.Module, level: Positives, weights: Tensor | None) -> Tensor:
    """Outside of autocast, in float32 at least: a squared sum overflows float16."""
    x = level.features
    if len(x) == 0 and not isinstance(loss, CenterLoss):
        # Some losses make nan of nothing. Of several processes all move the centers together.
        return _nothing(loss, x)
    given = [] if weights is None else [weights]
    with torch.autocast(x.device.type, enabled=False):
        value = loss(x.to(torch.promote_types(x.dtype, torch.float32)), level.labels, *given)
    if not torch.is_tensor(value) or value.dim() > 0:
        found = f"shape {list(value.shape)}" if torch.is_tensor(value) else repr(value)[:60]
        raise TypeError(f"{type(loss).__name__} must return a scalar tensor, not {found}")
    return value
