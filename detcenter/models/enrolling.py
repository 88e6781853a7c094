"""What enrolled classes make of the boxes that a detector may detect."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from detcenter.adoption import NotScripted, adopt, release
from detcenter.models.enrolled import EnrolledClasses
from detcenter.models.families import family_of, terms_of
from detcenter.models.terms import LevelEmbedding


def widened(model: Any, logits: Tensor, vectors: Sequence[Tensor]) -> Tensor:
    """The logits [..., C + E] of boxes whose vectors are given by level."""
    with torch.autocast(logits.device.type, enabled=False):
        own = logits[..., 1:].to(torch.promote_types(logits.dtype, torch.float32))
        classes = model.box_classes(_seen(model, vectors)).to(own.dtype)
        known = own + classes[..., :1]
        # The sum of exp(logits) stays: p_object with a softmax, the sum of the odds with sigmoids.
        new = own.logsumexp(-1, keepdim=True) + classes[..., 1:]
        return torch.cat([logits[..., :1], known.to(logits.dtype), new.to(logits.dtype)], -1)


def _seen(model: Any, vectors: Sequence[Tensor]) -> Tensor:
    """What the first term reads, [..., P, D]."""
    term = terms_of(model).named(None)
    if term is not None and term.embedded:
        return cast(LevelEmbedding, terms_of(model)["embedding"]).projected(vectors)
    return torch.cat(list(vectors), -2)


class _WithBoxes(NotScripted):
    """Lent to an R-CNN's predictor: an enrolled class's box is that of the likeliest taught one."""

    undone_by = "detcenter.enroll(model, None)"
    named = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        made = super().forward(*args, **kwargs)  # type: ignore[misc]
        if not isinstance(made, tuple):
            return made
        logits, codes = made
        classes = codes.shape[1] // 4
        more = logits.shape[1] - classes
        if more <= 0 or codes.shape[1] % 4:
            return made
        best = logits[:, 1:classes].argmax(1) + 1
        rows = best.view(-1, 1, 1).expand(-1, 1, 4)
        own = codes.unflatten(1, (classes, 4)).gather(1, rows).squeeze(1)
        return logits, torch.cat([codes, own.repeat(1, more)], 1)


def lend_boxes(model: Any, on: bool) -> None:
    """Let an R-CNN have boxes of enrolled classes, or no longer; in place."""
    if isinstance(model, GeneralizedRCNN):
        (adopt if on else release)(model.roi_heads.box_predictor, _WithBoxes)


def check_space(model: nn.Module, classes: EnrolledClasses) -> None:
    """Whether ``classes`` may lie in what ``model`` reads; see :func:`detcenter.enroll`.

    Raises:
        TypeError, ValueError: saying why not.
    """
    if isinstance(model, MaskRCNN):
        raise TypeError(
            "a Mask R-CNN has a mask for each class that it was trained on, and none for others: "
            "no class can be enrolled"
        )
    term = terms_of(model).named(None)
    if term is not None and term.embedded:
        widths: list[int] | None = [
            cast(LevelEmbedding, terms_of(model)["embedding"]).embedding.dim
        ]
    else:
        widths = family_of(model).feature_widths(model)
    if widths is not None and len(set(widths)) > 1:
        raise ValueError(
            f"the feature maps have {', '.join(map(str, widths))} channels, and nothing in common "
            "in which classes could be enrolled: attach a term with features='embedding'"
        )
    dim = cast(Tensor, classes.centers).shape[1]
    if widths is not None and widths[0] != dim:
        raise ValueError(f"the classes have {dim} features, the boxes of this model {widths[0]}")
