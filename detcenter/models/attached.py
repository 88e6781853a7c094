"""What an attached model is: torchvision's, or a person's, with the losses of its terms."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.ssd import SSD

from detcenter.adoption import NotScripted, adopt, own_class, release
from detcenter.batched.lending import Asked, lend
from detcenter.batched.ssd import ssd_losses
from detcenter.losses import MultiBoxLoss
from detcenter.models.candidates import Thought, reconsider, reconsidering
from detcenter.models.enrolled import EnrolledClasses
from detcenter.models.enrolling import check_space, lend_boxes, widened
from detcenter.models.families import family_of
from detcenter.models.listening import Listener, Notes, listening
from detcenter.models.terms import BoxTerms
from detcenter.models.voting import vote, voted

Model = TypeVar("Model", bound=nn.Module)


class Attached(Listener, NotScripted):
    """A detector that trains with the terms in ``box_terms``; in eval mode the one that it was,
    unless its embedding has a ``box_vote``, or it has enrolled ``box_classes``."""

    passing = False
    undone_by = "detach it"
    box_terms: BoxTerms
    box_vote: float | None = None
    box_classes: EnrolledClasses
    training: bool

    # Not compiled itself; what it calls is. Inlined, it would break torchvision's own graphs.
    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        plain: Any = super().forward  # type: ignore[misc]
        thoughts = [] if self.training else self._thoughts()
        if thoughts:
            with self._reconsidering(thoughts):
                return plain(*args, **kwargs)
        if not (self.training and self.box_terms) or self._box_notes is not None:
            return plain(*args, **kwargs)  # the last: called by itself, which listens already
        with self._listening() as notes:
            losses = plain(*args, **kwargs)
        return self._with_terms(losses, notes)

    def _thoughts(self) -> list[Thought]:
        enrolled = hasattr(self, "box_classes") and self.box_classes.names
        return ([voted] if self.box_vote else []) + ([widened] if enrolled else [])

    # Those below are not compiled at all: how many boxes are positive is known at run time only.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _reconsidering(self, thoughts: Sequence[Thought]) -> AbstractContextManager[None]:
        return reconsidering(self, thoughts)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _listening(self) -> AbstractContextManager[dict[nn.Module, Notes]]:
        own: Any = {self: Listener}
        return listening(own | family_of(self).listeners(self))  # type: ignore[arg-type]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _with_terms(self, losses: Any, notes: dict[nn.Module, Notes]) -> Any:
        kind, family = own_class(self).__name__, family_of(self)  # type: ignore[arg-type]
        matcher = family.matcher(self)
        if not notes[matcher]["matched"]:
            if not matcher.training:
                return losses  # only the container is in training mode: nothing was matched
            raise RuntimeError(
                f"this {kind} matched boxes past the methods that its terms listen to: "
                "SSD.compute_loss, head.compute_loss or roi_heads.select_training_samples were "
                "exchanged on the instance, or are not called"
            )
        if not isinstance(losses, dict):
            raise TypeError(
                f"{kind} returns {type(losses).__name__} in training, not the dict of losses to "
                "which those of its terms are added"
            )
        added: dict[str, Tensor] = self.box_terms(family.positives(self, notes))
        if losses.keys() & added.keys():
            twice = ", ".join(losses.keys() & added.keys())
            raise ValueError(f"{kind} has losses {twice} of its own; attach under another name")
        return losses | added

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        plain = not any(key.startswith("box_terms.") for key in state_dict)
        strict = args[0] if args else kwargs.get("strict", True)
        if strict and plain and self.box_terms:
            raise RuntimeError(
                "these weights are of a plain model, with nothing below box_terms: load them "
                "first, then attach (or load with strict=False; until version 0.2 terms lay below "
                "head or roi_heads)"
            )
        return super().load_state_dict(state_dict, *args, **kwargs)  # type: ignore[misc]


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
    ) -> Any:
        self.multibox.neg_to_pos_ratio = self.neg_to_pos_ratio
        boxes = targets, head_outputs, anchors, matched_idxs
        return ssd_losses(*boxes, self.box_coder, self.multibox)


def adopt_model(model: Any) -> None:
    """Make ``model`` an attached one, so far without terms, if it is none yet; in place.

    Raises:
        ValueError: if a name that is needed is the model's own.
    """
    if isinstance(model, Attached):
        return
    batched = own_class(model).compute_loss is SSD.compute_loss if isinstance(model, SSD) else False
    for name in ("box_terms", "multibox")[: 1 + batched]:
        if hasattr(model, name):
            raise ValueError(f"this {type(model).__name__} has an attribute {name} of its own")
    adopt(model, AttachedMultiBox if batched else Attached)
    model.box_terms = BoxTerms()
    # Made fast, an R-CNN draws other samples on a GPU, and its own losses are to stay as they are.
    if not isinstance(model, GeneralizedRCNN):
        lend(model, True)
    if batched:
        device = next(model.parameters()).device
        model.multibox = MultiBoxLoss().to(device).train(model.training)


def release_model(model: nn.Module) -> None:
    """Undo :func:`adopt_model`; the terms are dropped with their parameters and centers."""
    if isinstance(model, Attached):
        vote(model, None)
        without_classes(model)
        if not isinstance(model, Asked):
            lend(model, False)
        batched = isinstance(model, AttachedMultiBox)
        release(model, Attached)
        for name in ("box_terms", "multibox")[: 1 + batched]:
            delattr(model, name)


def enroll(model: Model, classes: EnrolledClasses | None) -> Model:
    r"""Let a detector find enrolled classes, without training; in place.

    In eval mode every candidate (see :func:`vote`) gets scores for them before boxes suppress each
    other. Of what the detector holds for an object of its classes a part goes to the enrolled ones,
    by what its features look like::

        p(e) = p_object * q(e),   p(c) = p_object * p_classifier(c) * q(any taught class)

    q is that of :class:`EnrolledClasses`, which sums to 1. Softmax detectors: p_object is 1 -
    p(background). Sigmoid detectors (RetinaNet, FCOS): the odds o = p / (1 - p) of all classes
    together take its place, as in :func:`vote`. A vote comes first. An R-CNN's box of an enrolled
    class is where it is of the likeliest taught one.

    The first enrolled class has the label C, the number of classes with background. Training does
    not change, nor do :func:`box_features` and :func:`box_logits`. Enrolled classes are no part of
    a ``state_dict``; copies and pickles of the model have them. Enroll after attaching, and before
    wrapping or compiling. :func:`detach` takes them away with the term that they are told by.

    Args:
        model: a detector that :func:`attach` takes, attached to or not. Its first term's features
            are read, or without a term its own vectors.
        classes: features of the same kind; None takes them away.

    Returns:
        ``model`` itself.

    Raises:
        TypeError: if ``model`` is no detector that is known here, or a Mask R-CNN, whose masks are
            of the classes that it was trained on.
        ValueError: if its features are not those of ``classes``: of other dimensions, or of levels
            that have nothing in common.
    """
    family_of(model)
    if classes is None:
        return without_classes(model)
    check_space(model, classes)
    adopt_model(model)
    device = next(model.parameters()).device
    model.box_classes = classes.to(device)  # type: ignore[assignment]
    reconsider(model, True)
    lend_boxes(model, True)
    return model


def without_classes(model: Model) -> Model:
    """Take enrolled classes away, in place."""
    if hasattr(model, "box_classes"):
        del model.box_classes
        lend_boxes(model, False)
        reconsider(model, getattr(model, "box_vote", None) is not None)
    return model


def set_min_negatives(model: Model, min_negatives: int) -> Model:
    """Mine at least ``min_negatives`` background boxes in every image; see :class:`MultiBoxLoss`.

    In place, of an SSD. 0 is torchvision's way, in which an image without objects teaches nothing.
    """
    MultiBoxLoss(min_negatives=min_negatives)  # which checks it
    _multibox(model).min_negatives = min_negatives
    return model


def set_losses_over_processes(model: Model) -> Model:
    """Make an SSD's own losses means over the boxes of all processes; see :class:`MultiBoxLoss`.

    In place. The terms are so always.
    """
    _multibox(model).over_processes = True
    return model


def _multibox(model: nn.Module) -> MultiBoxLoss:
    own = own_class(model)
    if not isinstance(model, SSD):
        raise TypeError(f"MultiBoxLoss is an SSD's; this is a {own.__name__}")
    if own.compute_loss is not SSD.compute_loss:
        raise TypeError(f"{own.__name__} computes its losses itself")
    adopt_model(model)
    found: Any = model.multibox
    return found
