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
    named = True
    """whether the class that is made bears its name too"""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        lent = [mixin for mixin in _lent(self) if not mixin.passing]
        return _blank, (own_class(self), *lent), self.__getstate__()


class NotScripted(Adopted):
    """What ``torch.jit.script`` cannot take, and a plain class can be had in its place."""

    undone_by: str

    def __prepare_scriptable__(self) -> Any:
        raise TypeError(f"torch.jit.script takes no such model: {self.undone_by} first")


def adopt(found: Any, mixin: type[Adopted], below: bool = False) -> None:
    """Put ``mixin`` before the class of ``found``, if it is not there yet; in place.

    With ``below``, behind all that was lent before: their methods then call those of ``mixin``.
    """
    if isinstance(found, mixin):
        return
    lent = _lent(found)
    found.__class__ = _class_of(own_class(found), *([mixin, *lent] if below else [*lent, mixin]))


def release(found: Any, mixin: type[Adopted]) -> None:
    """Undo :func:`adopt`, of ``mixin`` and what it is a base of; the others stay."""
    if isinstance(found, mixin):
        lent = [other for other in _lent(found) if not issubclass(other, mixin)]
        found.__class__ = _class_of(own_class(found), *lent)


def own_class(found: Any) -> Any:
    """The class of ``found`` without all that was lent."""
    own: Any = type(found)
    while "lent" in vars(own):
        _, own = own.lent
    return own


def keeps(found: Any, own: type, *names: str) -> bool:
    """Whether the methods ``names`` of ``found`` are those of ``own``, not a person's: neither of
    a subclass, nor put into the instance, nor into ``own`` itself."""
    kept = own_class(found)
    return all(
        getattr(kept, x) is getattr(own, x)
        and getattr(own, x).__module__ == own.__module__
        and x not in vars(found)
        for x in names
    )


def subclass(mixin: type[Adopted], own: type) -> type:
    """The same class for the same two, as `torch.compile` and type comparisons want it."""
    if (mixin, own) not in _SUBCLASSES:
        name = f"{mixin.__name__}{own.__name__}" if mixin.named else own.__name__
        _SUBCLASSES[mixin, own] = type(name, (mixin, own), {"lent": (mixin, own)})
    return _SUBCLASSES[mixin, own]


def _lent(found: Any) -> list[type[Adopted]]:
    """The mixins of ``found``, the innermost first."""
    lent: list[type[Adopted]] = []
    own: Any = type(found)
    while "lent" in vars(own):
        mixin, own = own.lent
        lent.insert(0, mixin)
    return lent


def _class_of(own: Any, *lent: type[Adopted]) -> Any:
    for mixin in lent:
        own = subclass(mixin, own)
    return own


def _blank(own: Any, *lent: type[Adopted]) -> Any:
    own = _class_of(own, *lent)
    return own.__new__(own)
