"""From a recipe to the detector that it names, with its terms attached."""

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torchvision.models.detection.ssd import SSD

from detcenter.batched import fast
from detcenter.errors import ConfigError, nearest
from detcenter.losses import CenterLoss, RankHardLoss, metric_loss
from detcenter.models import (
    MODEL_NAMES,
    OVER_BACKBONES,
    Embedding,
    attach,
    build_model,
    embedding_of,
    family_of,
    feature_sizes,
    set_box_vectors,
    set_l2_softmax,
    set_losses_over_processes,
    set_min_negatives,
    vote,
)
from detcenter.recipe.config import (
    CenterConfig,
    Config,
    LossConfig,
    ModelConfig,
    TermConfig,
)

_OVER_BACKBONES = (
    "backbone",
    "image_size",
    "strides",
    "anchor_scales",
    "aspect_ratios",
    "top_stride",
    "out_channels",
    "frozen_batch_norm",
)


def builder_arguments(model: ModelConfig, classes: list[str]) -> dict[str, Any]:
    """The arguments of ``build_model`` that ``model`` asks for; plain values, for a checkpoint."""
    if model.num_classes not in (None, len(classes) + 1):
        raise ConfigError(
            f"model.num_classes is {model.num_classes}, but the data has {len(classes)} classes "
            f"and background makes {len(classes) + 1}; set it so, or to null"
        )
    if model.name not in MODEL_NAMES:
        raise ConfigError(f"no model.name {model.name!r}; {nearest(model.name, MODEL_NAMES)}")
    chosen = {k: v for k, v in dataclasses.asdict(model).items() if v is not None}
    for key in ("min_negatives", "box_vectors", "l2_softmax", "l2_softmax_learnt", "options"):
        chosen.pop(key, None)
    misplaced = [
        key for key in _OVER_BACKBONES if key in chosen and model.name not in OVER_BACKBONES
    ]
    if misplaced:
        raise ConfigError(
            f"model.{misplaced[0]} is for model.name: {' or '.join(OVER_BACKBONES)}; {model.name} "
            "has its own, remove the key"
        )
    if model.name in OVER_BACKBONES and model.backbone is None:
        raise ConfigError(
            f"model.backbone is missing: model.name {model.name} needs a torchvision classifier"
        )
    own = {f.name for f in dataclasses.fields(model)}
    twice = sorted(own & model.options.keys())
    if twice:
        raise ConfigError(f"model.options.{twice[0]}: set model.{twice[0]} instead")
    return chosen | model.options | {"num_classes": len(classes) + 1}


def detector(
    config: Config, builder: dict[str, Any], steps_an_epoch: int = 1, load: bool = True
) -> nn.Module:
    """The model of a recipe, made fast, with its terms attached."""
    if config.model.l2_softmax_learnt and config.model.l2_softmax is None:
        raise ConfigError("model.l2_softmax_learnt is set without model.l2_softmax, the radius")
    with _errors_of("model"):
        model = fast(build_model(**builder, load=load))
    if config.model.box_vectors is not None:
        with _errors_of("model.box_vectors"):
            set_box_vectors(model, config.model.box_vectors)
    if config.model.l2_softmax is not None:
        with _errors_of("model.l2_softmax"):
            set_l2_softmax(model, config.model.l2_softmax, config.model.l2_softmax_learnt)
    if config.model.min_negatives:
        if not isinstance(model, SSD):
            raise ConfigError(f"model.min_negatives is for SSDs; {config.model.name} has no mining")
        set_min_negatives(model, config.model.min_negatives)
    if config.train.exact_losses:
        if not isinstance(model, SSD):
            raise ConfigError(
                f"train.exact_losses is for SSDs, not for {config.model.name}; RetinaNet's losses "
                "are exact as they are, see docs/training.md"
            )
        set_losses_over_processes(model)
    if config.center is not None:
        with _errors_of("center"):
            _attach_center(model, config.center, steps_an_epoch)
    for name, term in config.terms.items():
        with _errors_of(f"terms.{name}"):
            _attach_loss(model, name, term, steps_an_epoch)
    if config.center is not None and config.center.vote is not None:
        with _errors_of("center.vote"):
            vote(model, config.center.vote)
    return model


def _attach_center(model: nn.Module, center: CenterConfig, steps_an_epoch: int) -> None:
    loss = CenterLoss(alpha=center.alpha, normalize=center.normalize)
    attach(model, loss, **_term_arguments(model, center, steps_an_epoch))


def _attach_loss(model: nn.Module, name: str, term: LossConfig, steps_an_epoch: int) -> None:
    arguments = _term_arguments(model, term, steps_an_epoch)
    widths, num_classes = feature_sizes(model, arguments["features"])
    if len(set(widths)) == 1 and term.loss != "CenterLoss":
        widths = widths[:1]  # one loss compares the boxes of all levels
    losses = [_loss(term, num_classes, width) for width in widths]
    attach(model, losses, name=name, **arguments)


def _loss(term: LossConfig, num_classes: int, width: int) -> nn.Module:
    if "." in term.loss:
        return _imported_loss(term, num_classes, width)
    own = {"CenterLoss": CenterLoss, "RankHardLoss": RankHardLoss}
    if term.loss not in own:
        try:
            return metric_loss(
                term.loss, num_classes, width, term.args, term.miner, term.miner_args
            )
        except ImportError as error:
            raise ConfigError(f"loss {term.loss}: {error}") from None
    if term.miner is not None or term.miner_args:
        raise ValueError(f"miner: {term.loss} picks its boxes itself")
    try:
        return own[term.loss](**term.args)
    except TypeError as error:
        raise ValueError(f"{term.loss}: {error}") from None


def _imported_loss(term: LossConfig, num_classes: int, width: int) -> nn.Module:
    """A class of one's own, ``module.Class``, told the sizes that its constructor names."""
    if term.miner is not None or term.miner_args:
        raise ValueError(f"miner: {term.loss} picks its boxes itself")
    module, _, name = term.loss.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
        taken = inspect.signature(kind).parameters
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"loss {term.loss}: {error} (is its folder in PYTHONPATH?)") from None
    # Before it is called: a recipe, or the one in a checkpoint, may be a stranger's.
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"loss {term.loss} is no class of torch modules")
    sizes = {"num_classes": num_classes, "feature_dim": width}
    # Other draws of the run, the order of images say, stay what they are without the loss.
    with torch.random.fork_rng(devices=[]):
        return kind(**{k: v for k, v in sizes.items() if k in taken}, **term.args)


def _term_arguments(model: nn.Module, term: TermConfig, steps_an_epoch: int) -> dict[str, Any]:
    if term.start_epoch < 0:
        raise ValueError(f"start_epoch is not negative: {term.start_epoch}")
    return {
        "weight": term.weight,
        "features": _features(model, term),
        "warmup_steps": term.warmup_steps,
        "start_step": term.start_epoch * steps_an_epoch,
        "min_iou": term.min_iou,
        "per_object": term.per_object,
    }


def _features(model: nn.Module, term: TermConfig) -> Any:
    """As `attach` takes them."""
    asked: dict[str, Any] = {"dim": term.embedding_dim, "weight": term.embedding_weight}
    given = {key: value for key, value in asked.items() if value is not None}
    if not given:
        return term.features
    own = term.features is None and family_of(model).own_by_default
    if own or term.features not in (None, "embedding"):
        raise ValueError("embedding_dim and embedding_weight are for features: embedding")
    return dataclasses.replace(embedding_of(model) or Embedding(), **given)


@contextmanager
def _errors_of(section: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, ArithmeticError) as error:  # of a builder's wrong argument
        raise ConfigError(f"{section}: {error}") from error
