"""The boxes that a detector may detect, thought over before they suppress each other.

A candidate is a box of which any class has an own score above ``score_thresh`` (of FCOS the root of
class score times centerness). All others keep their logits, by which they are dropped anyway.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.ssd import SSD

from detcenter.adoption import NotScripted, adopt, release
from detcenter.batched.lent import exporting
from detcenter.models.cells import vectors_where
from detcenter.models.families import family_of

Thought = Callable[[Any, Tensor, Sequence[Tensor]], Tensor]
"""Of a model, the logits [..., C] of candidates and their vectors by level, [..., P_l, D_l]: other
logits. They may be of more classes, which come last."""


def reconsider(model: nn.Module, on: bool) -> None:
    """Let :func:`reconsidering` reach the logits of ``model``, or no longer; in place."""
    reader = family_of(model).reader(model)
    (adopt if on else release)(reader, Reconsidered)


class Reconsidered(NotScripted):
    """Lent to what reads the features and gives the class logits."""

    undone_by = "take its vote and its enrolled classes away"
    named = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        made = super().forward(*args, **kwargs)  # type: ignore[misc]
        return _reconsidered(args[0] if args else next(iter(kwargs.values())), made)


_NOW: ContextVar[Callable[[Any, Any], Any] | None] = ContextVar("_NOW", default=None)
"""What changes the outputs of the detector that detects right now in this thread"""


@contextmanager
def reconsidering(model: Any, thoughts: Sequence[Thought]) -> Iterator[None]:
    """Inside, the candidates of ``model`` are thought over, by ``thoughts`` in turn."""
    if not isinstance(family_of(model).reader(model), Reconsidered):
        raise RuntimeError(
            "the head of this model was exchanged since it votes or has enrolled classes: call "
            "detcenter.vote or enroll again, after attaching to the new head"
        )
    before = _NOW.set(partial(_changed, model, partial(_all, model, thoughts)))
    try:
        yield
    finally:
        _NOW.reset(before)


# Not compiled: how many boxes are candidates is known at run time only.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _reconsidered(read: Any, made: Any) -> Any:
    change = _NOW.get()
    return made if change is None else change(read, made)


_Change = Callable[[Tensor, Sequence[Tensor]], Tensor]


def _all(model: Any, thoughts: Sequence[Thought], x: Tensor, vectors: Sequence[Tensor]) -> Tensor:
    for thought in thoughts:
        x = thought(model, x, vectors)
    return x


def _changed(model: Any, change: _Change, read: Any, made: Any) -> Any:
    """What a head made of the maps that it read, or a predictor of vectors, with other logits."""
    if isinstance(made, Mapping):
        return {**made, "cls_logits": _of_cells(model, change, read, made)}
    logits, *others = made if isinstance(made, tuple) else (made,)
    changed = _of_vectors(model, change, read.flatten(1), logits)
    return (changed, *others) if others else changed


def _of_cells(
    model: Any, change: _Change, maps: Sequence[Tensor], outputs: Mapping[str, Tensor]
) -> Tensor:
    """The logits [N, A, C] of all anchors, those of candidates changed."""
    logits = outputs["cls_logits"]
    candidate = _surest(model, logits, outputs.get("bbox_ctrness")) > model.score_thresh
    per_cell = model.anchor_generator.num_anchors_per_location()
    if exporting():
        vectors = [_of_anchors(x, n) for x, n in zip(maps, per_cell, strict=True)]
        return _where(candidate, change(logits, vectors), logits)
    at, vectors = vectors_where(maps, per_cell, candidate)
    return _put(logits, at, change(logits[at], vectors))


def _of_vectors(model: Any, change: _Change, vectors: Tensor, logits: Tensor) -> Tensor:
    """The logits [P, C] of all proposals, those of candidates changed."""
    candidate = _surest(model, logits) > model.roi_heads.score_thresh
    if exporting():
        return _where(candidate, change(logits, [vectors]), logits)
    at = candidate.nonzero(as_tuple=True)
    return _put(logits, at, change(logits[at], [vectors[at]]))


def _surest(model: nn.Module, logits: Tensor, of_center: Tensor | None = None) -> Tensor:
    """The own score of each box's surest class, as torchvision computes it; [..., C] → [...]."""
    if isinstance(model, SSD | GeneralizedRCNN):
        return F.softmax(logits, -1)[..., 1:].amax(-1)
    best = logits[..., 1:].amax(-1).sigmoid()
    return best if of_center is None else (best * of_center.squeeze(-1).sigmoid()).sqrt()


def _of_anchors(feature_map: Tensor, per_cell: int) -> Tensor:
    """[N, D, H, W] as the vector of every anchor, [N, H W per_cell, D]."""
    return feature_map.flatten(2).transpose(1, 2).repeat_interleave(per_cell, 1)


def _where(candidate: Tensor, changed: Tensor, logits: Tensor) -> Tensor:
    return changed.where(candidate.unsqueeze(-1), _widened(logits, changed.shape[-1]))


def _put(logits: Tensor, at: tuple[Tensor, ...], values: Tensor) -> Tensor:
    """In place where no gradient needs what was there, and no class is added."""
    wide = _widened(logits, values.shape[-1])
    put = logits.index_put if logits.requires_grad and wide is logits else wide.index_put_
    return put(at, values)


def _widened(logits: Tensor, classes: int) -> Tensor:
    """With classes that no box is of."""
    more = classes - logits.shape[-1]
    return F.pad(logits, (0, more), value=-torch.inf) if more else logits
