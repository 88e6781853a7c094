"""Attach a loss on box features to a torchvision detector, and take it off again."""

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from torch import nn
from torchvision.models.detection.ssd import SSD

from detcenter.losses import CenterLoss
from detcenter.models import ssd
from detcenter.models.terms import CellTerm, EmbeddingTerm, LevelEmbedding

Model = TypeVar("Model", bound=nn.Module)


def attach(
    model: Model,
    loss: nn.Module | Sequence[nn.Module] | None = None,
    *,
    weight: float,
    name: str = "center",
    features: Literal["cell", "embedding"] = "cell",
    alpha: float = 0.5,
    normalize: bool = True,
    embedding_dim: int = 64,
    embedding_weight: float = 1.0,
) -> Model:
    """Add a loss on the features of matched positive boxes to ``model``, in place.

    In training ``model(images, targets)`` returns one more entry, ``loss_<name>``, already
    weighted, so that ``sum(losses.values())`` stays right; the other losses do not change. In eval
    mode the model computes what it computed before, and nothing else. Checkpoint keys are only
    added, below ``box_terms.<name>``.

    Args:
        model: an ``SSD`` of torchvision (``ssd300_vgg16``, ``ssdlite320_mobilenet_v3_large``, or
            one over any backbone).
        loss: called as ``loss(features [P, D], labels [P]) -> scalar``, labels from 1.
            None, the default, is :class:`detcenter.CenterLoss` sized for the model.
            With ``features="cell"`` and several levels, a sequence of one loss a level.
        weight: what the loss is multiplied with; at 0 every other loss and every gradient is
            the plain model's.
        name: of the term; several may be attached under different names.
        features: what a positive box is described by. ``"cell"``: the vector of the feature map
            at its cell, with one table of centers a level, as widths differ; no parameters.
            ``"embedding"``: its projection into one space of ``embedding_dim`` dimensions, with
            one table of centers, and an auxiliary softmax on the projections that keeps them from
            collapsing, returned as ``loss_embedding``.
        alpha: of the default loss: the step of its centers, see :class:`CenterLoss`.
        normalize: of the default loss: measure on the unit sphere, so that a weight means the
            same for every detector. On by default, unlike in the paper: raw features of a
            detector give losses from tens to hundreds.
        embedding_dim, embedding_weight: D of the embedding and the weight of its softmax.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: if ``model`` is no detector that is known here.
        ValueError: for a name that is taken or no identifier, a negative weight, an unknown
            ``features``, or losses that do not fit the levels.
    """
    if type(model) not in (SSD, ssd.AttachedSSD):
        raise TypeError(
            f"attach knows torchvision's SSD models, not {type(model).__name__}; for a model "
            "wrapped in DDP or compiled, attach before wrapping"
        )
    if callable(loss) and not isinstance(loss, nn.Module):
        raise TypeError(f"loss is a torch.nn.Module, or a sequence of them, not {loss!r}")
    terms = getattr(model, "box_terms", {})
    _check_term(name, weight, embedding_weight, taken=terms)
    widths, num_classes = ssd.level_widths(model), ssd.num_classes(model)
    term: nn.Module
    if features == "cell":
        if loss is None:
            loss = [CenterLoss(num_classes, d, alpha, normalize) for d in widths]
        term = CellTerm(name, _one_a_level(loss, widths), weight)
    elif features == "embedding":
        if any(isinstance(other, EmbeddingTerm) for other in terms.values()):
            raise ValueError("the model has an embedding already; detach it first")
        if loss is None:
            loss = CenterLoss(num_classes, embedding_dim, alpha, normalize)
        # The caller's random numbers stay what they would have been without the term.
        with torch.random.fork_rng(devices=[]):
            projections = LevelEmbedding(widths, embedding_dim, num_classes)
        term = EmbeddingTerm(name, _single(loss), weight, projections, embedding_weight)
    else:
        raise ValueError(f"features is 'cell' or 'embedding', not {features!r}")
    adopted = ssd.adopt(model)
    like = next(adopted.head.parameters())
    adopted.box_terms[name] = term.to(like.device, like.dtype).train(model.training)
    return model


def detach(model: Model, name: str | None = None) -> Model:
    """Take the term ``name`` off ``model``, or all terms; in place.

    With the last term goes all that was added: what is left is the plain torchvision model, its
    class, its ``state_dict`` keys and its losses. A model that nothing is attached to is returned
    as it is.

    Raises:
        ValueError: if there is no term of that name.
    """
    terms = getattr(model, "box_terms", {})
    if name is not None and name not in terms:
        raise ValueError(f"no term {name!r} is attached; there are: {', '.join(terms) or 'none'}")
    if name is not None and len(terms) > 1:
        del terms[name]
    elif isinstance(model, ssd.AttachedSSD):
        ssd.release(model)
    return model


def _check_term(name: str, weight: float, embedding_weight: float, taken: object) -> None:
    if not name.isidentifier() or name == "embedding" or hasattr(nn.ModuleDict, name):
        raise ValueError(f"a term's name is an identifier other than 'embedding', not {name!r}")
    if name in taken:  # type: ignore[operator]
        raise ValueError(f"a term {name!r} is attached already; detach it or choose another name")
    if weight < 0 or embedding_weight < 0:
        raise ValueError(f"weights are not negative: {weight=}, {embedding_weight=}")


def _single(loss: nn.Module | Sequence[nn.Module]) -> nn.Module:
    if not isinstance(loss, nn.Module):
        raise ValueError(f"features='embedding' takes a single loss, not {type(loss).__name__}")
    return loss


def _one_a_level(losses: nn.Module | Sequence[nn.Module], widths: list[int]) -> Sequence[nn.Module]:
    losses = [losses] if isinstance(losses, nn.Module) else losses
    if len(losses) != len(widths):
        raise ValueError(
            f"features='cell' needs one loss for each of the {len(widths)} levels, of widths "
            f"{widths}, not {len(losses)}; features='embedding' takes a single one"
        )
    return losses
