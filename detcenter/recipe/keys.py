"""Every key of a recipe: its dotted name, type, default and meaning, and what it is for short."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import docstring_parser

from detcenter.recipe.config import Config

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_MANY = {str: "texts", int: "whole numbers", float: "numbers"}

_ELSEWHERE = {
    "amp": "train.mixed_precision",
    "batch": "train.batch_size",
    "conf": "threshold",
    "imgsz": "model.image_size",
    "learning_rate": "train.lr",
    "lr0": "train.lr",
    "max_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "num_workers": "data.workers",
    "wd": "train.weight_decay",
}
"""Names that other programs have for keys."""

NONE_LIKE_IT = "none is like it; --help-all tells all"


class Key(NamedTuple):
    """A key of a recipe, or of a section of it."""

    name: str
    """dotted; NAME stands for a name of the user's choice"""
    kind: Any
    """its type"""
    default: Any
    meaning: str


def all_keys(of: type = Config, prefix: str = "") -> Iterator[Key]:
    """The keys of a dataclass, sections before what is in them."""
    meanings = _meanings(of)
    for field in dataclasses.fields(of):
        name = prefix + field.name
        made = field.default_factory
        default = field.default if made is dataclasses.MISSING else made()
        yield Key(name, field.type, default, meanings[field.name])
        section = section_in(field.type)
        if section is not None:
            named = ".NAME" if typing.get_origin(field.type) is dict else ""
            yield from all_keys(section, f"{name}{named}.")


def section_in(kind: Any) -> type | None:
    """The dataclass in a field's type: itself, one that may be null, or the values of a dict."""
    kinds = (kind, *typing.get_args(kind))
    return next((typing.cast(type, k) for k in kinds if dataclasses.is_dataclass(k)), None)


def in_words(kind: Any) -> str:
    """A type as a person would say it, ``whole number or null``."""
    of = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is Literal:
        return " or ".join(map(str, of))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(in_words, of))
    if origin is list:
        return f"list of {_many(of[0])}"
    if origin is dict or dataclasses.is_dataclass(kind):
        return "section of keys"
    return "null" if kind is type(None) else _WORDS[kind]


def _many(kind: Any) -> str:
    if typing.get_origin(kind) is list:
        return f"lists of {_many(typing.get_args(kind)[0])}"
    return _MANY.get(kind) or " or ".join(_MANY[each] for each in typing.get_args(kind))


@cache
def _meanings(of: type) -> dict[str, str]:
    """What stands below the fields, those of the classes above it too."""
    found: dict[str, str] = {}
    for one in reversed(of.__mro__):
        if dataclasses.is_dataclass(one):
            for param in docstring_parser.parse_from_object(one).params:
                found[param.arg_name] = " ".join((param.description or "").split())
    return found


def short_names(names: Sequence[str]) -> dict[str, list[str]]:
    """The keys among ``names`` that each last part stands for: one, where it is unambiguous.

    Keys of the digits, and of further losses, have no short names.
    """
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        if "." in name and not name.startswith(("data.digits.", "terms.")):
            found.setdefault(name.rpartition(".")[2], []).append(name)
    return {short: keys for short, keys in found.items() if short not in names}


def whole_names(args: Sequence[str], names: Sequence[str], own: Sequence[str]) -> list[str]:
    """``args`` with the dotted names of keys in the place of short ones.

    Args:
        names: of the keys that are known.
        own: options of the command, which come before keys of the same short name.

    Raises:
        ValueError: for a short name that several keys have, and for a key that is given by both its
            names; the message is one line.
    """
    short, hyphened = short_names(names), {_plain(name): name for name in own}
    whole, spelt = list[str](), dict[str, str]()
    for arg in args:
        given, equals, value = arg.removeprefix("--").partition("=")
        name, plus = given.removesuffix("+"), "+" if given.endswith("+") else ""
        if not arg.startswith("--") or name in own or not name:
            whole.append(arg)
        elif _plain(name) in hyphened:
            whole.append(f"--{hyphened[_plain(name)]}{plus}{equals}{value}")
        else:
            keys = short.get(_plain(name), [_plain(name)])
            if len(keys) > 1:
                raise ValueError(f"--{name} is {' or '.join(keys)}; give the whole name")
            whole.append(f"--{keys[0]}{plus}{equals}{value}")
        if arg.startswith("--"):
            key = whole[-1].partition("=")[0]
            if _plain(spelt.setdefault(key, name)) != _plain(name):
                raise ValueError(f"--{spelt[key]} and --{name} are the same; give one of them")
    return whole


def _plain(name: str) -> str:
    """Hyphens are as good as underscores."""
    return name.replace("-", "_")


def nearest_in_words(name: str, names: Sequence[str]) -> str:
    """What somebody may have meant who wrote ``name``, which is none of ``names``."""
    elsewhere = _ELSEWHERE.get(name)
    if elsewhere in names:
        return f"it is {elsewhere!r} here"
    by_depth = sorted(names, key=lambda each: each.count("."))
    by_last = {each.rpartition(".")[2]: each for each in reversed(by_depth)}
    last = difflib.get_close_matches(name.rpartition(".")[2], by_last, n=2, cutoff=0.75)
    whole = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    near = whole if "." in name or not last else [by_last[each] for each in last]
    if not near:
        return NONE_LIKE_IT
    return f"the nearest known is {' or '.join(map(repr, near))}"
