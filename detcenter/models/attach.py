"""Attach a loss on box features to a torchvision detector, and take it off again."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
from torch import nn

from detcenter.losses import CenterLoss, Processes
from detcenter.losses.processes import Group
from detcenter.models.attached import adopt_model, release_model
from detcenter.models.exact import without_exact_boxes
from detcenter.models.families import Family, family_of, terms_of
from detcenter.models.terms import BoxTerm, BoxTerms, Embedding, LevelEmbedding

Model = TypeVar("Model", bound=nn.Module)
Features = Literal["cell", "box", "embedding"] | Embedding | None
_KEYS_OF_TORCHVISION = ["classifier", "box_reg", "mask", "keypoint", "objectness", "rpn_box_reg"]
_WEIGHT_OF_BOXES, _WEIGHT = 1.0, 0.3  # what docs/study.md found best


def attach(
    model: Model,
    loss: nn.Module | Sequence[nn.Module] | None = None,
    *,
    weight: float | None = None,
    features: Features = None,
    name: str = "center",
    warmup_steps: int = 0,
    start_step: int = 0,
    min_iou: float = 0.0,
    per_object: bool = False,
    feature_dim: int | Sequence[int] | None = None,
    num_classes: int | None = None,
    process_group: Group | None = None,
) -> Model:
    """Add center loss, or another loss on box features, to a torchvision detector; in place.

    In training ``model(images, targets)`` returns one more entry, ``loss_<name>``, already
    weighted, so that ``sum(losses.values())`` stays right; the other losses do not change. In eval
    mode the model computes what it computed before, and nothing else. Checkpoint keys are only
    added, below ``box_terms``. Attach after changing heads and loading plain weights, and before
    making the optimizer, wrapping or compiling.

    Args:
        model: an SSD, RetinaNet, FCOS, Faster R-CNN, Mask R-CNN or Keypoint R-CNN of torchvision,
            from a builder, over a backbone of your own, or of a subclass.
        loss: called as ``loss(features [P, D], labels [P]) -> scalar``, labels from 1, P from 0;
            any loss of pytorch-metric-learning, say. A :class:`CenterLoss` needs no sizes here;
            None is ``CenterLoss()``. Where levels differ in width and there is no embedding, a
            sequence of one loss a level; where they do not, it may be. One ``CenterLoss`` without
            sizes stands for a copy of it a level.
        weight: what the loss is multiplied with. None is 1 on an R-CNN's own vectors and 0.3
            elsewhere, see docs/study.md. At 0 every other loss and every gradient is the plain
            model's (with an embedding, if its weight is 0 too).
        features: what a positive box is described by. ``"box"``, of the R-CNNs: the vector that
            the layer of the class logits reads. ``"cell"``, of the others: the vector of the
            feature map at the box's cell, with one table of centers a level. ``"embedding"`` or
            ``Embedding(dim=64, weight=1.0)``: its projection into one space, with one table of
            centers, and an auxiliary softmax that keeps the projections from collapsing, returned
            as ``loss_embedding``. A model has one embedding, which its terms share. None is
            ``"box"`` for the R-CNNs, ``"embedding"`` for the others.
        name: of the term; several may be attached under different names.
        warmup_steps: training steps over which the weight rises from 0, while the centers already
            follow; for a model that was trained without the term.
        start_step: training steps before that, at weight 0.
        min_iou: only positives of at least this IoU with their object, 0..1. torchvision's
            matchers also let boxes below their threshold match where an object has no better one;
            those show more background than object. Not for FCOS, which matches points.
        per_object: count every object once, however many boxes are matched with it, so that large
            objects, which many anchors match, do not outvote small ones. The loss must take
            weights, as :class:`CenterLoss` does.
        feature_dim: D of the detector's own vectors, one or one a level; for heads of your own,
            where it cannot be read off the model.
        num_classes: with background, likewise.
        process_group: of torch.distributed, the processes that train this model together; None is
            all of the job.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: if ``model`` is no detector that is known here, or a loss is no module.
        ValueError: for a name that is taken or no identifier, a value out of its range, unknown
            ``features``, losses that do not fit the levels, a table of centers that does not fit
            the model, sizes that are not known, and a model that is wrapped already.

    Example:
        >>> from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn
        >>> model = fasterrcnn_mobilenet_v3_large_fpn(weights_backbone=None, num_classes=7)
        >>> detcenter.attach(model)  # before the optimizer
        >>> losses = model(images, targets)  # ..., loss_center
    """
    family, terms = family_of(model), terms_of(model)
    _check_bare(model)
    _check_loss(loss)
    _check_name(name, terms)
    if min_iou > 0 and not family.matches_boxes:
        raise ValueError("min_iou: FCOS matches points, not boxes; there is no IoU to ask for")
    chosen = _chosen(family, features)
    sizes = feature_sizes(model, chosen, feature_dim, num_classes)
    losses = _fitting(CenterLoss() if loss is None else loss, sizes, per_object)
    term = BoxTerm(
        losses,
        (_WEIGHT_OF_BOXES if chosen == "box" else _WEIGHT) if weight is None else weight,
        embedded=isinstance(chosen, Embedding) or chosen == "embedding",
        warmup_steps=warmup_steps,
        start_step=start_step,
        min_iou=min_iou,
        per_object=per_object,
        process_group=process_group,
    )
    added: dict[str, nn.Module] = {name: term}
    if term.embedded and "embedding" not in terms:
        own = Sizes(_own_widths(model, family, feature_dim), sizes.num_classes)
        added["embedding"] = _new_embedding(chosen, own, process_group)
    for one, width in zip(losses, sizes.widths, strict=False):
        _prepare(one, sizes.num_classes, width, process_group)
    adopt_model(model)
    like = next(model.parameters())
    for key, module in added.items():
        terms_of(model)[key] = module.to(like.device, like.dtype).train(model.training)
    return model


def detach(model: Model, name: str | None = None) -> Model:
    """Take the term ``name`` off ``model``, or all terms; in place.

    With the last term that reads it goes the embedding, and with the last term all that was added
    (the floor of ``set_min_negatives`` too): what is left is the plain torchvision model, its
    classes, its ``state_dict`` keys and its losses. Nothing of a plain model changes, but that
    boxes under autocast are torchvision's if :func:`build_model` made it.

    Raises:
        TypeError: if ``model`` is no detector that is known here, or FSDP2 has made it another.
        ValueError: if there is no term of that name, or the model is wrapped.
    """
    terms = terms_of(model)
    terms.named(name)
    if hasattr(model, "box_terms"):
        _check_bare(model)
    if name is None or len(terms.terms()) == 1:
        release_model(model)
        return without_exact_boxes(model)
    del terms[name]
    if "embedding" in terms and not any(term.embedded for _, term in terms.terms()):
        del terms["embedding"]
    return model


class Sizes(NamedTuple):
    """What a loss on the features of a model is sized by."""

    widths: list[int]
    """D of each level; of an embedding there is one"""
    num_classes: int
    """with background"""


def feature_sizes(
    model: nn.Module,
    features: Features = None,
    feature_dim: int | Sequence[int] | None = None,
    num_classes: int | None = None,
) -> Sizes:
    """The sizes of ``features``, as :func:`attach` takes them.

    Raises:
        ValueError: if they are unknown, or do not fit what the model has.
    """
    family = family_of(model)
    chosen = _chosen(family, features)
    num_classes = family.num_classes(model) if num_classes is None else num_classes
    if num_classes is None:
        raise ValueError(
            f"how many classes this {type(model).__name__} has cannot be read off its head; give "
            "num_classes=, with background"
        )
    if chosen != family.source:
        return Sizes([_embedding_of(model, chosen).dim], num_classes)
    return Sizes(_own_widths(model, family, feature_dim), num_classes)


def _own_widths(
    model: nn.Module, family: Family, feature_dim: int | Sequence[int] | None
) -> list[int]:
    widths = family.feature_widths(model) if feature_dim is None else feature_dim
    if widths is None:
        raise ValueError(
            f"how wide the features of this {type(model).__name__} are cannot be read off its "
            "head; give feature_dim=, the length of the vector that its classifier reads"
        )
    return [widths] * family.levels(model) if isinstance(widths, int) else list(widths)


def embedding_of(model: nn.Module) -> Embedding | None:
    """The embedding that ``model`` has."""
    terms = terms_of(model)
    return cast(LevelEmbedding, terms["embedding"]).embedding if "embedding" in terms else None


def _chosen(family: Family, features: Any) -> Any:
    """``features`` without None."""
    if features is None:
        return family.source if family.own_by_default else "embedding"
    if features not in (family.source, "embedding") and not isinstance(features, Embedding):
        raise ValueError(
            f"features is {family.source!r} for this detector, an Embedding(...) or 'embedding', "
            f"not {features!r}"
        )
    return features


def _embedding_of(model: nn.Module, chosen: Any) -> Embedding:
    """The one that ``chosen`` stands for: the model's own, which its terms share, or a new one."""
    there = embedding_of(model)
    if not isinstance(chosen, Embedding):
        return there or Embedding()
    if there not in (None, chosen):
        raise ValueError(
            f"the model's embedding, which its terms share, is {there}; {chosen} does not fit"
        )
    return chosen


def _new_embedding(chosen: Any, sizes: Sizes, process_group: Group | None) -> LevelEmbedding:
    embedding = chosen if isinstance(chosen, Embedding) else Embedding()
    # The caller's random numbers stay what they would have been without the term.
    with torch.random.fork_rng(devices=[]):
        return LevelEmbedding(sizes.widths, sizes.num_classes, embedding, process_group)


def _prepare(loss: nn.Module, num_classes: int, width: int, process_group: Group | None) -> None:
    if isinstance(loss, CenterLoss):
        if loss.num_classes is None:
            loss.size(num_classes, width)
        if process_group is not None:
            loss.processes = Processes(process_group)


def _check_bare(model: nn.Module) -> None:
    """Refuse a model whose class does not say any more what its forward does."""
    if "forward" in vars(model):
        raise ValueError(
            "the forward of this model was exchanged (by accelerate's prepare, say): attach "
            "before that, and take the wrapper off before detach"
        )


def _check_loss(loss: object) -> None:
    several = loss if isinstance(loss, Sequence) else [loss]
    if loss is not None and not all(isinstance(one, nn.Module) for one in several):
        raise TypeError(f"loss is a torch.nn.Module, or a sequence of them, not {loss!r}")


def _check_name(name: str, taken: BoxTerms) -> None:
    if not isinstance(name, str) or not name.isidentifier() or hasattr(BoxTerms(), name):
        raise ValueError(f"a term's name must be a valid, unused identifier, not {name!r}")
    if name in _KEYS_OF_TORCHVISION or name == "embedding":
        raise ValueError(f"a term {name!r} would replace the model's own loss_{name}; rename it")
    if name in taken:
        raise ValueError(f"a term {name!r} is attached already; detach it or choose another name")


def _fitting(
    loss: nn.Module | Sequence[nn.Module], sizes: Sizes, per_object: bool
) -> Sequence[nn.Module]:
    """The losses as a sequence, one or one a level, if they fit the features."""
    losses, widths = [loss] if isinstance(loss, nn.Module) else loss, sizes.widths
    for_any = [one for one in losses if isinstance(one, CenterLoss) and one.num_classes is None]
    if len(losses) == len(for_any) == 1 < len(widths):
        losses = [copy.deepcopy(losses[0]) for _ in widths]
    if len(losses) != len(widths) and (len(losses) != 1 or len(set(widths)) > 1):
        raise ValueError(
            f"features of {len(widths)} levels, of widths {widths}, need as many losses, not "
            f"{len(losses)}; features='embedding' takes a single one"
        )
    for one, width in zip(losses, widths, strict=False):
        found = (one.num_classes, one.feature_dim) if isinstance(one, CenterLoss) else None
        if found not in (None, (None, None), (sizes.num_classes, width)):
            raise ValueError(
                f"the model has {sizes.num_classes} classes (with background) and features of "
                f"{width} dimensions; a table of centers {list(found)} does not fit"
            )
        if per_object and "weights" not in inspect.signature(one.forward).parameters:
            raise ValueError(f"per_object: {type(one).__name__} takes no weights of its features")
    return losses
