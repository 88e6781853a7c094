"""How features, and what they were matched with, are reached: parts of a model that take notes.

While an attached model computes its losses, the parts that know something have a subclass that
notes what they are called with. Afterwards they are what they were, and nothing is kept; nor has
a copy or a pickle anything of it. Models that share a part are trained one after the other.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from detcenter.adoption import Adopted, subclass

Notes = dict[str, list[Any]]
"""of a part: what was `read`, with what was made of it, and what was `matched`"""


class Listener(Adopted):
    """A part of a model. What it notes goes to ``_box_notes``, where there are any."""

    passing = True
    _box_notes: Notes | None = None

    def _note_boxes(self, kind: str, found: Any) -> None:
        if self._box_notes is not None:
            self._box_notes[kind].append(found)

    def __getstate__(self) -> Any:
        return {k: v for k, v in super().__getstate__().items() if k != "_box_notes"}  # type: ignore[attr-defined]


class Reader(Listener):
    """Notes its input, and what it makes of it, as ``read``."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        made = super().forward(*args, **kwargs)  # type: ignore[misc]
        self._note_boxes("read", (args[0] if args else next(iter(kwargs.values())), made))
        return made


class Matcher(Listener):
    """Notes what it computes losses from as ``matched``."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        names = ("targets", "head_outputs", "anchors", "matched_idxs")
        self._note_boxes("matched", dict(zip(names, args, strict=False)) | kwargs)
        return super().compute_loss(*args, **kwargs)  # type: ignore[misc]


class ReadingMatcher(Reader, Matcher):
    """Of RetinaNet and FCOS, whose head reads the maps and computes the losses too."""


class Sampler(Listener):
    """Notes the targets, and of the drawn proposals boxes, objects and labels, as ``matched``."""

    def select_training_samples(self, *args: Any, **kwargs: Any) -> Any:
        samples: Any = super().select_training_samples(*args, **kwargs)  # type: ignore[misc]
        names = ("proposals", "matched_idxs", "labels")
        targets = kwargs["targets"] if "targets" in kwargs else args[1]
        drawn = dict(zip(names, samples, strict=False))
        self._note_boxes("matched", drawn | {"targets": targets})
        return samples


@contextmanager
def listening(parts: Mapping[nn.Module, type[Listener]]) -> Iterator[dict[nn.Module, Notes]]:
    """Inside, ``parts`` note what they are called with; gives the notes of each."""
    notes: dict[nn.Module, Notes] = {part: {"read": [], "matched": []} for part in parts}
    before = [(part, part.__class__, part.__dict__.get("_box_notes")) for part in parts]
    try:
        for part, mixin in parts.items():
            if not isinstance(part, mixin):
                part.__class__ = subclass(mixin, type(part))
            part.__dict__["_box_notes"] = notes[part]
        yield notes
    finally:
        for part, own, earlier in before:
            part.__class__ = own
            part.__dict__.pop("_box_notes", None)
            if earlier is not None:
                part.__dict__["_box_notes"] = earlier
