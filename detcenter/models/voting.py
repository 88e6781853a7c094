"""What the embedding thinks a box is, mixed into the scores of a detector before suppression."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.ssd import SSD

from detcenter.adoption import NotScripted, adopt, release
from detcenter.batched.lent import exporting
from detcenter.losses import CenterLoss
from detcenter.models.cells import vectors_where
from detcenter.models.families import family_of, terms_of
from detcenter.models.terms import BoxTerms, LevelEmbedding

Model = TypeVar("Model", bound=nn.Module)
By = Literal["softmax", "centers"]


@dataclass(frozen=True)
class Vote:
    """How the embedding votes, see :func:`vote`."""

    weight: float
    by: By
    scale: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"the weight of the vote lies in 0..1, not {self.weight}")
        if self.by not in ("softmax", "centers"):
            raise ValueError(f"the embedding votes by 'softmax' or by 'centers', not {self.by!r}")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"the scale of the cosines is above 0 and finite, not {self.scale}")


def vote(
    model: Model, weight: float | None = 0.5, *, by: By = "softmax", scale: float = 32.0
) -> Model:
    r"""Let the embedding of a detector have a say in what its boxes are; in place.

    In eval mode the class posterior of every candidate becomes a geometric mean of the detector's
    own and the embedding's, over the C - 1 classes without background::

        p(c) = p_object * m(c),   m(c) ∝ p_classifier(c)^(1 - weight) * p_embedding(c)^weight

    before boxes are dropped by their scores and suppress each other. Softmax detectors (SSD, the
    R-CNNs): p_object is 1 - p(background), and p_classifier the softmax over the classes alone;
    p_object does not change. Sigmoid detectors (RetinaNet, FCOS) have no background: with odds
    o(c) = p(c) / (1 - p(c)) in place of the probabilities, p_classifier(c) is o(c) over their sum,
    and it is this sum that does not change. Their column 0, which is never trained to be high,
    stays as it is, and so does FCOS's centerness.

    A candidate is a box of which any class has an own score above ``score_thresh`` (of FCOS the
    root of class score times centerness). Only these are embedded. The others keep their scores,
    and are dropped as before. Boxes themselves, and training, do not change.

    The vote is no part of a ``state_dict``; copies and pickles of the model have it, and recipes
    (``center.vote``). Choose it before wrapping or compiling the model.

    Args:
        model: a detector with a term that reads the embedding: ``attach(model,
            features="embedding")``, which is the default but for the R-CNNs.
        weight: of the embedding's posterior, in 0..1. 0 changes nothing, 1 leaves the classifier
            only p_object; None takes the vote away.
        by: ``"softmax"``, the embedding's auxiliary softmax; or ``"centers"``, the softmax of
            ``scale`` times the cosine of the embedded box and the center of each class, of the
            first term on the embedding that has centers. (A class whose center is still zero has
            the cosine 0.)
        scale: of these cosines, above 0.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: if ``model`` is no detector that is known here.
        ValueError: for a value out of its range, and where there is no embedding, no term with
            centers on it, or an auxiliary softmax of weight 0, which learns nothing. While all
            centers are zero, what raises is the detection.
    """
    reader = family_of(model).reader(model)
    if weight is None:
        release(reader, Polled)
        vars(model).pop("box_vote", None)
        return model
    chosen = Vote(weight, by, scale)
    _check(terms_of(model), chosen)
    model.box_vote = chosen  # type: ignore[assignment]
    adopt(reader, Polled)
    return model


def check_voters(model: nn.Module, trained: bool = False) -> None:
    """Whether those who vote in ``model``, if any, are there, and if ``trained`` have learnt.

    Raises:
        ValueError: saying what is missing.
    """
    chosen: Vote | None = getattr(model, "box_vote", None)
    if chosen is not None:
        _check(terms_of(model), chosen)
        if trained and chosen.by == "centers":
            _check_moved(_centers(terms_of(model)))


def _check(terms: BoxTerms, chosen: Vote) -> None:
    if "embedding" not in terms:
        raise ValueError(
            "nothing embeds the boxes of this model, so nothing can vote: attach a term with "
            "features='embedding' (an R-CNN's own vectors are what its classifier reads already)"
        )
    if chosen.by == "centers":
        _centers(terms)
    elif cast(LevelEmbedding, terms["embedding"]).embedding.weight == 0:
        raise ValueError(
            "the embedding's softmax has weight 0, so that it learns nothing and cannot vote; "
            "let the centers vote, by='centers'"
        )


def without_lost_voters(model: Model) -> Model:
    """Take the vote away where a term was detached that it needs, in place."""
    try:
        check_voters(model)
    except ValueError:
        vote(model, None)
    return model


class Polled(NotScripted):
    """Lent to what reads the features and gives the class logits; see :func:`voting`."""

    undone_by = "detcenter.vote(model, None)"
    named = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        made = super().forward(*args, **kwargs)  # type: ignore[misc]
        return _polled(args[0] if args else next(iter(kwargs.values())), made)


_POLL: ContextVar[Callable[[Any, Any], Any] | None] = ContextVar("_POLL", default=None)
"""What mixes the votes into the outputs of the detector that detects right now in this thread"""


@contextmanager
def voting(model: Any) -> Iterator[None]:
    """Inside, what ``model`` detects is voted on."""
    if not isinstance(family_of(model).reader(model), Polled):
        raise RuntimeError(
            "the head of this model was exchanged since its embedding votes: call detcenter.vote "
            "again, after attaching to the new head"
        )
    before = _POLL.set(partial(_voted_on, model))
    try:
        yield
    finally:
        _POLL.reset(before)


# Not compiled: how many boxes are candidates is known at run time only.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _polled(read: Any, made: Any) -> Any:
    poll = _POLL.get()
    return made if poll is None else poll(read, made)


def _voted_on(model: Any, read: Any, made: Any) -> Any:
    """What a head made of the maps that it read, or a predictor of vectors, with mixed logits."""
    if isinstance(made, Mapping):
        return {**made, "cls_logits": _of_cells(model, read, made)}
    logits, *others = made if isinstance(made, tuple) else (made,)
    mixed = _of_vectors(model, read.flatten(1), logits)
    return (mixed, *others) if others else mixed


def _of_cells(model: Any, maps: Sequence[Tensor], outputs: Mapping[str, Tensor]) -> Tensor:
    """The logits [N, A, C] of all anchors, those of candidates mixed."""
    logits = outputs["cls_logits"]
    candidate = _surest(model, logits, outputs.get("bbox_ctrness")) > model.score_thresh
    per_cell = model.anchor_generator.num_anchors_per_location()
    if exporting():
        vectors = [_of_anchors(x, n) for x, n in zip(maps, per_cell, strict=True)]
        return _mixed(model, logits, vectors).where(candidate.unsqueeze(-1), logits)
    at, vectors = vectors_where(maps, per_cell, candidate)
    return _put(logits, at, _mixed(model, logits[at], vectors))


def _of_vectors(model: Any, vectors: Tensor, logits: Tensor) -> Tensor:
    """The logits [P, C] of all proposals, those of candidates mixed."""
    candidate = _surest(model, logits) > model.roi_heads.score_thresh
    if exporting():
        return _mixed(model, logits, [vectors]).where(candidate.unsqueeze(-1), logits)
    at = candidate.nonzero(as_tuple=True)
    return _put(logits, at, _mixed(model, logits[at], [vectors[at]]))


def _surest(model: nn.Module, logits: Tensor, of_center: Tensor | None = None) -> Tensor:
    """The own score of each box's surest class, as torchvision computes it; [..., C] → [...]."""
    if isinstance(model, SSD | GeneralizedRCNN):
        return F.softmax(logits, -1)[..., 1:].amax(-1)
    best = logits[..., 1:].amax(-1).sigmoid()
    return best if of_center is None else (best * of_center.squeeze(-1).sigmoid()).sqrt()


def _of_anchors(feature_map: Tensor, per_cell: int) -> Tensor:
    """[N, D, H, W] as the vector of every anchor, [N, H W per_cell, D]."""
    return feature_map.flatten(2).transpose(1, 2).repeat_interleave(per_cell, 1)


def _put(logits: Tensor, at: tuple[Tensor, ...], values: Tensor) -> Tensor:
    """In place where no gradient needs what was there."""
    put = logits.index_put if logits.requires_grad else logits.index_put_
    return put(at, values)


def _mixed(model: Any, logits: Tensor, vectors: Sequence[Tensor]) -> Tensor:
    """The logits [..., C] of boxes whose vectors are given by level; column 0 is background's."""
    chosen: Vote = model.box_vote
    with torch.autocast(logits.device.type, enabled=False):
        own = logits[..., 1:].to(torch.promote_types(logits.dtype, torch.float32))
        votes = _votes(terms_of(model), chosen, vectors).to(own.dtype).log_softmax(-1)
        posterior = ((1 - chosen.weight) * own + chosen.weight * votes).log_softmax(-1)
        # The sum of exp(logits) stays: p_object with a softmax, the sum of the odds with sigmoids.
        mixed = own.logsumexp(-1, keepdim=True) + posterior
        return torch.cat([logits[..., :1], mixed.to(logits.dtype)], -1)


def _votes(terms: BoxTerms, chosen: Vote, vectors: Sequence[Tensor]) -> Tensor:
    """The embedding's logits of the classes from 1, [..., C - 1]."""
    embedding = cast(LevelEmbedding, terms["embedding"])
    embedded = embedding.projected(vectors)
    if chosen.by == "softmax":
        logits: Tensor = embedding.classifier(embedded)
        return logits
    centers = _centers(terms)
    if not exporting():
        _check_moved(centers)
    exact = torch.promote_types(embedded.dtype, centers.dtype)
    directions = F.normalize(embedded.to(exact), dim=-1)
    return chosen.scale * directions @ F.normalize(centers[1:], dim=1).to(exact).T


def _centers(terms: BoxTerms) -> Tensor:
    """Of the first term on the embedding that has some, [C, D]."""
    losses = [loss for _, term in terms.terms() if term.embedded for loss in term.losses]
    for loss in losses:
        if isinstance(loss, CenterLoss):
            return loss.centers
    raise ValueError(
        "no term on the embedding has centers that could vote: attach CenterLoss to it, or let "
        "its softmax vote, by='softmax'"
    )


def _check_moved(centers: Tensor) -> None:
    if not centers.any():
        raise ValueError("all centers are zero, so that they cannot vote: train the term first")
