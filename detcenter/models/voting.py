"""What the embedding thinks a box is, mixed into the scores of a detector before suppression."""

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from detcenter.models.candidates import reconsider
from detcenter.models.families import family_of, terms_of
from detcenter.models.terms import LevelEmbedding

Model = TypeVar("Model", bound=nn.Module)


def vote(model: Model, weight: float | None = 0.5) -> Model:
    r"""Let the embedding of a detector have a say in what its boxes are; in place.

    In eval mode the class posterior of every candidate becomes a geometric mean of the detector's
    own and that of the embedding's auxiliary softmax, over the C - 1 classes without background::

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

    Returns:
        ``model`` itself.

    Raises:
        TypeError: if ``model`` is no detector that is known here.
        ValueError: for a weight out of its range, and where there is no embedding, or an auxiliary
            softmax of weight 0, which learns nothing.
    """
    family_of(model)
    if weight is None:
        vars(model).pop("box_vote", None)
        reconsider(model, hasattr(model, "box_classes"))
        return model
    if not 0 <= weight <= 1:
        raise ValueError(f"the weight of the vote lies in 0..1, not {weight}")
    _check_voter(model)
    model.box_vote = weight  # type: ignore[assignment]
    reconsider(model, True)
    return model


def _check_voter(model: nn.Module) -> None:
    """Whether who votes is there and learns.

    Raises:
        ValueError: saying what is missing.
    """
    terms = terms_of(model)
    if "embedding" not in terms:
        raise ValueError(
            "nothing embeds the boxes of this model, so nothing can vote: attach a term with "
            "features='embedding' (an R-CNN's own vectors are what its classifier reads already)"
        )
    if cast(LevelEmbedding, terms["embedding"]).embedding.weight == 0:
        raise ValueError(
            "the embedding's softmax has weight 0, so that it learns nothing and cannot vote"
        )


def without_lost_voter(model: Model) -> Model:
    """Take the vote away where the embedding went with the last term that read it, in place."""
    return model if "embedding" in terms_of(model) else vote(model, None)


def voted(model: Any, logits: Tensor, vectors: Sequence[Tensor]) -> Tensor:
    """The logits [..., C] of boxes whose vectors are given by level; column 0 is background's."""
    weight: float = model.box_vote
    with torch.autocast(logits.device.type, enabled=False):
        own = logits[..., 1:].to(torch.promote_types(logits.dtype, torch.float32))
        embedding = cast(LevelEmbedding, terms_of(model)["embedding"])
        votes = embedding.classifier(embedding.projected(vectors)).to(own.dtype).log_softmax(-1)
        posterior = ((1 - weight) * own + weight * votes).log_softmax(-1)
        # The sum of exp(logits) stays: p_object with a softmax, the sum of the odds with sigmoids.
        mixed = own.logsumexp(-1, keepdim=True) + posterior
        return torch.cat([logits[..., :1], mixed.to(logits.dtype)], -1)
