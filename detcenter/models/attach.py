"""Attach a loss on box features to a torchvision detector, and take it off again."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from detcenter.losses import CenterLoss
from detcenter.losses.processes import Group
from detcenter.models.attached import adopt_model, release_model, without_classes
from detcenter.models.exact import without_exact_boxes
from detcenter.models.families import Family, family_of, terms_of
from detcenter.models.terms import BoxTerm, BoxTerms, Embedding, LevelEmbedding
from detcenter.models.voting import without_lost_voter

Model = TypeVar("Model", bound=nn.Module)
Features = Literal["cell", "box", "embedding"] | Embedding | None
_KEYS_OF_TORCHVISION = ["classifier", "box_reg", "mask", "keypoint", "objectness", "rpn_box_reg"]
_WEIGHT_OF_CENTERS, _WEIGHT_OF_BOXES, _WEIGHT = (
    3.0,
    1.0,
    0.3,
)  # the first and last are docs/study.md's


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
    """Add center loss to a torchvision detector.

    Or another loss on box features; in place. In training ``model(images, targets)`` returns one
    more entry, ``loss_<name>``, already weighted, so that ``sum(losses.values())`` stays right; the
    other losses do not change. In eval mode nothing does. All but the R-CNNs are made fast as well,
    see :func:`detcenter.fast`: the same numbers, sooner. Checkpoint keys are only added, below
    ``box_terms``. Attach after changing heads and loading plain weights, and before making the
    optimizer, wrapping or compiling.

    Args:
        model: an SSD, RetinaNet, FCOS, Faster R-CNN, Mask R-CNN or Keypoint R-CNN of torchvision,
            or of a subclass.
        loss: called as ``loss(features [P, D], labels [P]) -> scalar``, labels from 1, P from 0.
            None is ``CenterLoss()``, which needs no sizes here. Where levels differ in width and
            there is no embedding, a sequence of one loss a level; where they do not, it may be. A
            single ``CenterLoss`` without sizes stands for a copy of it a level.
        weight: what the loss is multiplied with. None is 3 for center loss on an R-CNN's own
            vectors, 1 for another loss there, and 0.3 elsewhere, see docs/study.md. At 0 every
            other loss and every gradient is the plain model's (with an embedding, if its weight is
            0 too).
        features: what a positive box is described by: ``"box"``, the vector that an R-CNN's layer
            of class logits reads; ``"cell"``, of the others, the vector of the feature map at the
            box's cell, with one table of centers a level; ``"embedding"`` or ``Embedding(dim=64,
            weight=1.0)``, a projection into one space, with one table of centers and an auxiliary
            softmax, ``loss_embedding``. A model has one embedding, which its terms share. None is
            ``"box"`` for the R-CNNs, ``"embedding"`` for the others.
        name: of the term; several may be attached under different names.
        warmup_steps: training steps over which the weight rises from 0, while the centers already
            follow; for a model that was trained without the term. ``loss_<name>``, which is
            weighted, is therefore 0.0 in the first step and small in the next ones.
        start_step: training steps before that, at weight 0.
        min_iou: only positives of at least this IoU with their object, 0..1. torchvision's
            matchers let worse boxes match where an object has no better one. Not for FCOS, which
            matches points.
        per_object: count every object once, however many boxes are matched with it. The loss must
            take weights, as :class:`CenterLoss` does.
        feature_dim, num_classes: D of the detector's own vectors, one or one a level, and the
            classes with background, for heads of your own off which they cannot be read.
        process_group: of torch.distributed, the processes that train this model together; None is
            all of the job.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: if ``model`` is no detector that is known here, or a loss is no module.
        ValueError: for a name that is taken or no identifier, a value out of its range, unknown
            ``features``, losses that do not fit the levels or the model, sizes that are not
            known, and a model that is wrapped already, or has enrolled classes and no term.

    Example:
        >>> from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn
        >>> model = fasterrcnn_mobilenet_v3_large_fpn(weights_backbone=None, num_classes=7)
        >>> detcenter.attach(model)  # before the optimizer
        >>> losses = model(images, targets)  # ..., loss_center
    """
    family, terms = family_of(model), terms_of(model)
    _check_bare(model)
    _check_name(name, terms)
    if hasattr(model, "box_classes") and not terms.terms():
        raise ValueError(
            "classes are enrolled by what this model reads now: attach first, then enroll"
        )
    if min_iou > 0 and not family.matches_boxes:
        raise ValueError("min_iou: FCOS matches points, not boxes; there is no IoU to ask for")
    features = _chosen(family, features)
    widths, num_classes = feature_sizes(model, features, feature_dim, num_classes)
    losses = _fitting(CenterLoss() if loss is None else loss, widths, num_classes, per_object)
    if weight is None:
        weight = _usual_weight(features, losses)
    term = BoxTerm(
        losses,
        weight,
        embedded=features != family.source,
        warmup_steps=warmup_steps,
        start_step=start_step,
        min_iou=min_iou,
        per_object=per_object,
        process_group=process_group,
    )
    added: dict[str, nn.Module] = {name: term}
    if term.embedded and "embedding" not in terms:
        own, _ = feature_sizes(model, family.source, feature_dim, num_classes)
        # The caller's random numbers stay what they would have been without the term.
        with torch.random.fork_rng(devices=[]):
            new = LevelEmbedding(own, num_classes, _embedding(model, features), process_group)
        added["embedding"] = new
    shared = terms["embedding"] if term.embedded and "embedding" in terms else None
    if isinstance(shared, LevelEmbedding) and shared.processes.group is None:
        shared.processes = term.processes
    for one, width in zip(losses, widths, strict=False):
        if isinstance(one, CenterLoss):
            one.fit(num_classes, width, process_group)
    adopt_model(model)
    like = next(model.parameters())
    for key, module in added.items():
        terms_of(model)[key] = module.to(like.device, like.dtype).train(model.training)
    return model


def detach(model: Model, name: str | None = None) -> Model:
    """Take the term ``name`` off ``model``, or all terms; in place.

    With the last term that reads it goes the embedding, and with that the :func:`vote`. With the
    first term go the classes that are enrolled by what it reads. With the last term goes all that
    was added (the floor of ``set_min_negatives`` too): what is left is the plain torchvision model,
    its classes, its ``state_dict`` keys and its losses, fast only if it was so before ``attach``.
    (So are anchors and boxes under autocast, of a model that :func:`build_model` made, in the dtype
    that torchvision gives them.)

    Raises:
        TypeError: if ``model`` is no detector that is known here.
        ValueError: if there is no term of that name, or the model is wrapped or sharded.
    """
    terms = terms_of(model)
    terms.named(name)
    if hasattr(model, "box_terms"):
        _check_bare(model)
    if name is None or len(terms.terms()) == 1:
        release_model(model)
        return without_exact_boxes(model)
    if terms.named(name) is terms.named(None):
        without_classes(model)
    del terms[name]
    if "embedding" in terms and not any(term.embedded for _, term in terms.terms()):
        del terms["embedding"]
    return without_lost_voter(model)


def _usual_weight(features: Features, losses: Sequence[nn.Module]) -> float:
    if features != "box":
        return _WEIGHT
    return _WEIGHT_OF_CENTERS if isinstance(losses[0], CenterLoss) else _WEIGHT_OF_BOXES


def feature_sizes(
    model: nn.Module,
    features: Features = None,
    feature_dim: int | Sequence[int] | None = None,
    num_classes: int | None = None,
) -> tuple[list[int], int]:
    """What a loss on ``features`` is sized by; the arguments are those of :func:`attach`.

    Returns:
        D of each level (an embedding is one), and the number of classes with background.

    Raises:
        ValueError: if they are unknown, or are at odds with the model's head.
    """
    family, kind = family_of(model), type(model).__name__
    features = _chosen(family, features)
    num_classes = _agreed("num_classes", num_classes, family.num_classes(model), kind)
    if num_classes is None:
        raise ValueError(
            f"how many classes this {kind} has cannot be read off its head; give num_classes=, "
            "with background"
        )
    if features != family.source:
        return [_embedding(model, features).dim], num_classes
    levels = family.levels(model)
    given = [feature_dim] * levels if isinstance(feature_dim, int) else feature_dim
    given = None if given is None else list(given)
    widths: list[int] | None = _agreed("feature_dim", given, family.feature_widths(model), kind)
    if widths is None:
        raise ValueError(
            f"how wide the features of this {kind} are cannot be read off its head; give "
            "feature_dim=, the length of the vector that its classifier reads"
        )
    return widths, num_classes


def _agreed(name: str, given: Any, read: Any, kind: str) -> Any:
    """What is given, or else what can be read off the model, if they are not at odds."""
    if given is not None and read not in (None, given):
        raise ValueError(f"{name}={given} does not fit this {kind}, whose head has {read}")
    return read if given is None else given


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


def _embedding(model: nn.Module, features: Any) -> Embedding:
    """The model's own, or what ``features`` stand for."""
    there = embedding_of(model)
    chosen = features if isinstance(features, Embedding) else there or Embedding()
    if there not in (None, chosen):
        raise ValueError(
            f"the model's embedding, which its terms share, is {there}; {chosen} does not fit"
        )
    return chosen


def _check_bare(model: nn.Module) -> None:
    """Refuse a model whose class does not say any more what its forward does."""
    if "forward" in vars(model):
        raise ValueError(
            "the forward of this model was exchanged (by accelerate's prepare, say): attach "
            "before that, and take the wrapper off before detach"
        )
    if isinstance(model, FSDPModule):
        raise ValueError(
            "this model is sharded: attach, and detach, before fully_shard; or load its whole "
            "state dict, without the keys below box_terms, into a plain model"
        )


def _check_name(name: str, taken: BoxTerms) -> None:
    if not isinstance(name, str) or not name.isidentifier() or hasattr(BoxTerms(), name):
        raise ValueError(f"a term's name must be a valid, unused identifier, not {name!r}")
    if name in _KEYS_OF_TORCHVISION or name == "embedding":
        raise ValueError(f"a term {name!r} would replace the model's own loss_{name}; rename it")
    if name in taken:
        raise ValueError(f"a term {name!r} is attached already; detach it or choose another name")


def _fitting(loss: Any, widths: list[int], num_classes: int, per_object: bool) -> list[nn.Module]:
    """The losses, one or one a level, if they fit the features."""
    losses = list(loss) if isinstance(loss, Sequence) else [loss]
    if not all(isinstance(one, nn.Module) for one in losses):
        raise TypeError(f"loss is a torch.nn.Module, or a sequence of them, not {loss!r}")
    sizes = [(one.num_classes, one.feature_dim) for one in losses if isinstance(one, CenterLoss)]
    if sizes == [(None, None)] and len(widths) > 1:
        losses = [copy.deepcopy(losses[0]) for _ in widths]
    if len(losses) != len(widths) and (len(losses) != 1 or len(set(widths)) > 1):
        raise ValueError(
            f"features of {len(widths)} levels, of widths {widths}, need as many losses, not "
            f"{len(losses)}; features='embedding' takes a single one"
        )
    for one, width in zip(losses, widths, strict=False):
        found = (one.num_classes, one.feature_dim) if isinstance(one, CenterLoss) else None
        if found not in (None, (None, None), (num_classes, width)):
            raise ValueError(
                f"the model has {num_classes} classes (with background) and features of "
                f"{width} dimensions; a table of centers {list(found)} does not fit"
            )
        if per_object and "weights" not in inspect.signature(one.forward).parameters:
            raise ValueError(f"per_object: {type(one).__name__} takes no weights of its features")
    return losses
