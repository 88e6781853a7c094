"""Attach a loss on box features to a torchvision detector, and take it off again."""

import inspect
import math
from collections.abc import Sequence
from typing import Literal, TypeVar, cast

import torch
from torch import nn
from torchvision.models.detection.fcos import FCOS

from detcenter.losses import CenterLoss
from detcenter.models.families import seam_of, terms_of
from detcenter.models.terms import BoxTerm, BoxTerms, LevelEmbedding

Model = TypeVar("Model", bound=nn.Module)
EMBEDDING_DIM = 64  # unless told otherwise
_KEYS_OF_TORCHVISION = ["classifier", "box_reg", "mask", "keypoint", "objectness", "rpn_box_reg"]


def attach(
    model: Model,
    loss: nn.Module | Sequence[nn.Module] | None = None,
    *,
    weight: float,
    name: str = "center",
    features: Literal["cell", "box", "embedding"] | None = None,
    alpha: float = 0.5,
    normalize: bool = True,
    embedding_dim: int | None = None,
    embedding_weight: float | None = None,
    warmup: int = 0,
    start_step: int = 0,
    min_iou: float = 0.0,
    per_object: bool = False,
) -> Model:
    """Add a loss on the features of matched positive boxes to ``model``, in place.

    In training ``model(images, targets)`` returns one more entry, ``loss_<name>``, already
    weighted, so that ``sum(losses.values())`` stays right; the other losses do not change. In eval
    mode the model computes what it computed before, and nothing else. Checkpoint keys are only
    added, below ``box_terms.<name>``.

    Args:
        model: an SSD, RetinaNet, FCOS, Faster R-CNN, Mask R-CNN or Keypoint R-CNN of torchvision,
            from a builder or over a backbone of your own.
        loss: called as ``loss(features [P, D], labels [P]) -> scalar``, labels from 1, P from 0;
            any loss of pytorch-metric-learning, say. None, the default, is
            :class:`detcenter.CenterLoss` sized for the model. Where levels differ in width and
            there is no embedding, a sequence of one loss a level; where they do not, it may be.
        weight: what the loss is multiplied with; at 0 every other loss and every gradient is
            the plain model's (with an embedding, at an ``embedding_weight`` of 0 too). On the unit
            sphere 1 is what lifts AP on an R-CNN's own vectors, see docs/study.md.
        name: of the term; several may be attached under different names.
        features: what a positive box is described by. None: the detector's own vector, which is
            ``"box"`` for the R-CNNs, the vector that the box predictor reads, and ``"cell"`` for
            the others, the vector of the feature map at the box's cell, with one table of centers
            a level. ``"embedding"``: its projection into one space of ``embedding_dim``
            dimensions, with one table of centers, and an auxiliary softmax on the projections
            that keeps them from collapsing, returned as ``loss_embedding``. A model has one
            embedding, which its terms share.
        alpha: of the default loss: the step of its centers, see :class:`CenterLoss`.
        normalize: of the default loss: measure on the unit sphere, so that a weight means the
            same for every detector. On by default, unlike in the paper: raw features of a
            detector give losses from tens to hundreds.
        embedding_dim, embedding_weight: D of the embedding and the weight of its softmax; None
            leaves those of the model's embedding, and is 64 and 1 for a new one.
        warmup: training steps over which the weight rises from 0, while the centers already
            follow; for a model that was trained without the term.
        start_step: training steps before that, at weight 0.
        min_iou: only positives of at least this IoU with their object, 0..1. torchvision's
            matchers also let boxes below their threshold match where an object has no better one;
            those show more background than object. Not for FCOS, which matches points.
        per_object: count every object once, however many boxes are matched with it, so that large
            objects, which many anchors match, do not outvote small ones. The loss must take
            weights, as :class:`CenterLoss` does.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: if ``model`` is no detector that is known here.
        ValueError: for a name that is taken or no identifier, a value out of its range, an
            unknown ``features``, losses that do not fit the levels, or a table of centers that
            does not fit the model.
    """
    seam = seam_of(model)
    _check_loss(loss)
    terms = terms_of(model)
    _check_name(name, terms)
    if min_iou > 0 and isinstance(model, FCOS):
        raise ValueError("min_iou: FCOS matches points, not boxes; there is no IoU to ask for")
    widths, num_classes = seam.feature_widths(model), seam.num_classes(model)
    embedding = _embedding(features, seam.SOURCE, terms, widths, num_classes, embedding_dim)
    _check_softmax(embedding, embedding_dim, embedding_weight)
    if embedding is not None:
        widths = [embedding.embedding_dim]
    if loss is None:
        loss = [CenterLoss(num_classes, width, alpha, normalize) for width in widths]
    losses = _fitting(loss, widths, num_classes, per_object)
    term = BoxTerm(
        losses,
        weight,
        embedded=embedding is not None,
        warmup=warmup,
        start_step=start_step,
        min_iou=min_iou,
        per_object=per_object,
    )
    if embedding is not None and embedding_weight is not None:
        embedding.weight = embedding_weight
    host = seam.adopt(model)
    like = next(host.parameters())
    added = {name: term} | ({} if embedding is None else {"embedding": embedding})
    for key, module in added.items():
        host.box_terms[key] = module.to(like.device, like.dtype).train(model.training)
    return model


def detach(model: Model, name: str | None = None) -> Model:
    """Take the term ``name`` off ``model``, or all terms; in place.

    With the last term that reads it goes the embedding, and with the last term all that was added
    (the floor of ``set_min_negatives`` too): what is left is the plain torchvision model, its
    class, its ``state_dict`` keys and its losses. A plain model is returned as it is.

    Raises:
        TypeError: if ``model`` is no detector that is known here.
        ValueError: if there is no term of that name.
    """
    seam = seam_of(model)
    terms = terms_of(model)
    terms.named(name)
    if name is None or len(terms.terms()) == 1:
        if hasattr(seam.host(model), "box_terms"):
            seam.release(model)
        return model
    del terms[name]
    if "embedding" in terms and not any(term.embedded for _, term in terms.terms()):
        del terms["embedding"]
    return model


def embedding_dim(model: nn.Module) -> int:
    """D of the embedding that ``model`` has, or of one that it would be given."""
    terms = terms_of(model)
    if "embedding" not in terms:
        return EMBEDDING_DIM
    return cast(LevelEmbedding, terms["embedding"]).embedding_dim


def _check_loss(loss: object) -> None:
    several = loss if isinstance(loss, Sequence) else [loss]
    if loss is not None and not all(isinstance(one, nn.Module) for one in several):
        raise TypeError(f"loss is a torch.nn.Module, or a sequence of them, not {loss!r}")


def _check_name(name: str, taken: BoxTerms) -> None:
    if not isinstance(name, str) or not name.isidentifier() or hasattr(BoxTerms(), name):
        raise ValueError(f"a term's name is an identifier, and free, not {name!r}")
    if name in _KEYS_OF_TORCHVISION or name == "embedding":
        raise ValueError(f"a term {name!r} would replace the model's own loss_{name}; rename it")
    if name in taken:
        raise ValueError(f"a term {name!r} is attached already; detach it or choose another name")


def _check_softmax(
    embedding: LevelEmbedding | None, embedding_dim: int | None, embedding_weight: float | None
) -> None:
    if embedding_weight is not None and not 0 <= embedding_weight < math.inf:
        raise ValueError(f"weights are finite and not negative: {embedding_weight=}")
    if embedding is None and (embedding_dim is not None or embedding_weight is not None):
        raise ValueError("embedding_dim and embedding_weight are for features='embedding'")


def _embedding(
    features: str | None,
    own: str,
    terms: BoxTerms,
    widths: list[int],
    num_classes: int,
    embedding_dim: int | None,
) -> LevelEmbedding | None:
    """The model's, or a new one; None for the detector's own vectors."""
    if features in (None, own):
        return None
    if features != "embedding":
        raise ValueError(f"features is {own!r} for this detector, or 'embedding', not {features!r}")
    if "embedding" in terms:
        shared = cast(LevelEmbedding, terms["embedding"])
        if embedding_dim not in (None, shared.embedding_dim):
            raise ValueError(
                f"the model's embedding has {shared.embedding_dim} dimensions, and terms share it; "
                f"embedding_dim={embedding_dim} does not fit"
            )
        return shared
    dim = EMBEDDING_DIM if embedding_dim is None else embedding_dim
    if dim < 1:
        raise ValueError(f"embedding_dim is at least 1, not {dim}")
    # The caller's random numbers stay what they would have been without the term.
    with torch.random.fork_rng(devices=[]):
        return LevelEmbedding(widths, dim, num_classes)


def _fitting(
    loss: nn.Module | Sequence[nn.Module], widths: list[int], num_classes: int, per_object: bool
) -> Sequence[nn.Module]:
    """The losses as a sequence, one or one a level, if they fit the features."""
    losses = [loss] if isinstance(loss, nn.Module) else loss
    if len(losses) != len(widths) and (len(losses) != 1 or len(set(widths)) > 1):
        raise ValueError(
            f"features of {len(widths)} levels, of widths {widths}, need as many losses, not "
            f"{len(losses)}; features='embedding' takes a single one"
        )
    for one, width in zip(losses, widths, strict=False):
        if isinstance(one, CenterLoss) and tuple(one.centers.shape) != (num_classes, width):
            raise ValueError(
                f"the model has {num_classes} classes (with background) and features of {width} "
                f"dimensions; a table of centers {list(one.centers.shape)} does not fit"
            )
        if per_object and "weights" not in inspect.signature(one.forward).parameters:
            raise ValueError(f"per_object: {type(one).__name__} takes no weights of its features")
    return losses
