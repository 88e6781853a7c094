"""How features, and what they were matched with, are reached: parts of a model that take notes.

While an attached model computes its losses, the parts that know something have a subclass that
notes what they are called with. Afterwards they are what they were: nothing of it is in a copy, a
pickle or another call of a part, and nothing is kept.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from detcenter.models.adoption import Adopted, subclass

Notes = dict[str, Any]


class Listener(Adopted):
    """A part of a model. What it notes goes to ``_box_notes``, where there are any."""

    _box_notes: Notes | None = None

    def note(self, **found: Any) -> None:
        if self._box_notes is not None:
            self._box_notes |= found


class Reader(Listener):
    """Notes ``features``, its input."""

    def forward(self, features: Any, *args: Any, **kwargs: Any) -> Any:
        self.note(features=features)
        return super().forward(features, *args, **kwargs)  # type: ignore[misc]


class Matcher(Listener):
    """Notes ``targets``, ``anchors`` and ``matched_idxs``, from which it computes losses."""

    def compute_loss(
        self, targets: Any, head_outputs: Any, anchors: Any, matched_idxs: Any
    ) -> dict[str, Tensor]:
        self.note(targets=targets, anchors=anchors, matched_idxs=matched_idxs)
        losses: Any = super().compute_loss  # type: ignore[misc]
        return losses(targets, head_outputs, anchors, matched_idxs)


class ReadingMatcher(Reader, Matcher):
    """Of RetinaNet and FCOS, whose head reads the maps and computes the losses too."""


class Sampler(Listener):
    """Notes the ``targets`` and, of the drawn proposals, boxes, objects and labels."""

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        samples: Any = super().select_training_samples(proposals, targets)  # type: ignore[misc]
        names = ("proposals", "matched_idxs", "labels")
        self.note(targets=targets, **dict(zip(names, samples, strict=False)))
        return samples


@contextmanager
def listening(parts: Mapping[nn.Module, type[Listener]]) -> Iterator[Notes]:
    """Inside, ``parts`` note what they are called with; gives the notes."""
    notes: Notes = {}
    before = [(part, part.__class__) for part in parts]
    try:
        for part, mixin in parts.items():
            if not isinstance(part, mixin):
                part.__class__ = subclass(mixin, type(part))
            part.__dict__["_box_notes"] = notes
        yield notes
    finally:
        for part, own in before:
            part.__class__ = own
            part.__dict__.pop("_box_notes", None)
