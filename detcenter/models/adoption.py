"""Subclasses lent to objects that torchvision, or a person, made.

The class is made from the object's own, as `torch.nn.utils.parametrize` and FSDP2 do, so that any
subclass of torchvision's stays what it is. Parameters, buffers and their names do not change. A
pickle names the two classes that the lent one is made of, which any process can import.
"""

from typing import Any

_SUBCLASSES: dict[tuple[type, type], type] = {}


class Adopted:
    """The base of what is lent: classes whose methods call ``super()``."""

    lent: tuple[type["Adopted"], type]
    """the class that was lent, and the object's own"""
    passing = False
    """whether it is lent for a moment, and no copy that is made in it has it"""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        lent: list[type[Adopted]] = []
        own: Any = type(self)
        while "lent" in vars(own):
            mixin, own = own.lent
            if not mixin.passing:
                lent.append(mixin)
        return _blank, (own, *reversed(lent)), self.__getstate__()


def adopt(found: Any, mixin: type[Adopted]) -> None:
    """Put ``mixin`` before the class of ``found``, if it is not there yet; in place."""
    if not isinstance(found, mixin):
        found.__class__ = subclass(mixin, type(found))


def release(found: Any, mixin: type[Adopted]) -> None:
    """Undo :func:`adopt`."""
    if isinstance(found, mixin):
        _, found.__class__ = type(found).lent


def own_class(found: Any) -> Any:
    """The class of ``found`` without all that was lent."""
    own: Any = type(found)
    while hasattr(own, "lent"):
        _, own = own.lent
    return own


def subclass(mixin: type[Adopted], own: type) -> type:
    """The same class for the same two, as `torch.compile` and type comparisons want it."""
    if (mixin, own) not in _SUBCLASSES:
        name = f"{mixin.__name__}{own.__name__}"
        _SUBCLASSES[mixin, own] = type(name, (mixin, own), {"lent": (mixin, own)})
    return _SUBCLASSES[mixin, own]


def _blank(own: Any, *lent: type[Adopted]) -> Any:
    for mixin in lent:
        own = subclass(mixin, own)
    return own.__new__(own)
