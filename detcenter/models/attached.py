"""What an attached model is: torchvision's, or a person's, with the losses of its terms."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD

from detcenter.losses import MultiBoxLoss
from detcenter.models.adoption import Adopted, adopt, release
from detcenter.models.cells import matched_objects
from detcenter.models.families import family_of
from detcenter.models.listening import Notes, listening
from detcenter.models.terms import BoxTerms

Model = TypeVar("Model", bound=nn.Module)


class Attached(Adopted):
    """A detector that trains with the terms in ``box_terms``; in eval mode the one that it was."""

    box_terms: BoxTerms
    training: bool

    # Not compiled itself; what it calls is. Inlined, it would break torchvision's own graphs.
    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        plain: Any = super().forward  # type: ignore[misc]
        if not (self.training and self.box_terms):
            return plain(*args, **kwargs)
        with self._listening() as notes:
            losses = plain(*args, **kwargs)
        if "targets" not in notes:  # only the container is in training mode: nothing was matched
            return losses
        if not isinstance(losses, dict):
            raise TypeError(
                f"{type(self).__name__} returns {type(losses).__name__} in training, not the dict "
                "of losses to which those of its terms are added"
            )
        return losses | self._term_losses(notes)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _listening(self) -> AbstractContextManager[Notes]:
        return listening(family_of(self).listeners(self))  # type: ignore[arg-type]

    # How many boxes are positive is known at run time only.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _term_losses(self, notes: Notes) -> dict[str, Tensor]:
        positives = family_of(self).positives(self, notes)  # type: ignore[arg-type]
        losses: dict[str, Tensor] = self.box_terms(positives)
        return losses

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        plain = not any(key.startswith("box_terms.") for key in state_dict)
        if strict and plain and self.box_terms:
            raise RuntimeError(
                "nothing below box_terms is in these weights: load a plain model's before attach, "
                "or with strict=False; until version 0.2 it lay below head or roi_heads"
            )
        return super().load_state_dict(state_dict, strict, assign)  # type: ignore[misc]

    def __prepare_scriptable__(self) -> Any:
        raise TypeError("torch.jit.script takes no attached model: detach it first")


class AttachedMultiBox(Attached):
    """An SSD whose own losses are torchvision's, batched: see :class:`MultiBoxLoss`."""

    multibox: MultiBoxLoss
    neg_to_pos_ratio: float
    box_coder: Any

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Any],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """``head_outputs`` holds ``cls_logits`` [N, A, C] and ``bbox_regression`` [N, A, 4];
        ``matched_idxs`` the index of each anchor's box in its image, negative for background."""
        if own_losses(self):
            losses: dict[str, Tensor] = super().compute_loss(  # type: ignore[misc]
                targets, head_outputs, anchors, matched_idxs
            )
            return losses
        matched = torch.stack(matched_idxs)
        labels, boxes, _ = matched_objects(targets, matched)
        regression_targets = self.box_coder.encode_single(
            boxes.flatten(0, 1), torch.cat(anchors)
        ).view_as(boxes)
        outputs = head_outputs["cls_logits"], head_outputs["bbox_regression"]
        self.multibox.neg_to_pos_ratio = self.neg_to_pos_ratio
        losses = self.multibox(*outputs, labels, regression_targets, matched >= 0)
        return losses


def adopt_model(model: nn.Module) -> None:
    """Make ``model`` an attached one, so far without terms, if it is none yet; in place."""
    if isinstance(model, Attached):
        return
    model.box_terms = BoxTerms()
    if isinstance(model, SSD):
        device = next(model.parameters()).device
        model.multibox = MultiBoxLoss().to(device).train(model.training)
    adopt(model, AttachedMultiBox if isinstance(model, SSD) else Attached)


def release_model(model: nn.Module) -> None:
    """Undo :func:`adopt_model`; the terms are dropped with their parameters and centers."""
    if isinstance(model, Attached):
        release(model, Attached)
        for name in ("box_terms", "multibox"):
            model._modules.pop(name, None)


def own_losses(model: Any) -> bool:
    """Whether an SSD's class computes its losses itself, instead of torchvision's."""
    own: Any = type(model)
    while hasattr(own, "lent"):
        own = own.lent[1]
    return bool(own.compute_loss is not SSD.compute_loss)


def set_min_negatives(model: Model, min_negatives: int) -> Model:
    """Mine at least ``min_negatives`` background boxes in every image; see :class:`MultiBoxLoss`.

    In place, of an SSD. 0 is torchvision's way, in which an image without objects teaches nothing.
    """
    multibox = _multibox(model)
    multibox.min_negatives = min_negatives
    multibox.check()
    return model


def set_losses_over_processes(model: Model) -> Model:
    """Make an SSD's own losses means over the boxes of all processes; see :class:`MultiBoxLoss`.

    In place. The terms are so always.
    """
    _multibox(model).over_processes = True
    return model


def _multibox(model: Any) -> MultiBoxLoss:
    if not isinstance(model, SSD):
        raise TypeError(f"MultiBoxLoss is an SSD's; this is a {type(model).__name__}")
    if own_losses(model):
        raise TypeError(f"{type(model).__name__} computes its losses itself")
    adopt_model(model)
    found: MultiBoxLoss = model.multibox
    return found
