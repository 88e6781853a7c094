"""Every key of a recipe, from the dataclasses of detcenter.recipe.config: python docs/keys.py"""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import docstring_parser

from detcenter.recipe.config import Config, LossConfig

_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_MANY = {str: "texts", int: "whole numbers", float: "numbers"}


def page() -> str:
    """Markdown: a heading for every section of a recipe, and a definition for every key."""
    parts = ["### At the top\n", *_definitions(Config, "")]
    for name, of in sections(Config):
        about = docstring_parser.parse_from_object(of).short_description
        parts += [f"### `{name}`\n", f"{about}\n", *_definitions(of, f"{name}.")]
    return "\n".join(parts)


def sections(of: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    """The dataclasses below ``of``, with the dotted keys that they stand under."""
    for name, kind in typing.get_type_hints(of).items():
        for part in (kind, *typing.get_args(kind)):
            if dataclasses.is_dataclass(part):
                key = f"{prefix}{name}.NAME" if part is LossConfig else prefix + name
                yield key, part
                yield from sections(part, f"{key}.")


def _definitions(of: type, prefix: str) -> Iterator[str]:
    kinds, meanings = typing.get_type_hints(of), _meanings(of)
    below = {key.split(".")[0] for key, _ in sections(of)}
    for field in dataclasses.fields(of):
        if field.name in below:
            continue
        kind, default = in_words(kinds[field.name]), _as_yaml(_default(field))
        yield f"`{prefix}{field.name}`\n: {meanings[field.name]}\\\n  {kind}; default `{default}`\n"


def _meanings(of: type) -> dict[str, str]:
    """What stands below the fields, those of the classes above it too."""
    found: dict[str, str] = {}
    for one in reversed(of.__mro__):
        if dataclasses.is_dataclass(one):
            for param in docstring_parser.parse_from_object(one).params:
                found[param.arg_name] = _as_markdown(param.description or "")
    return found


def _as_markdown(text: str) -> str:
    return re.sub(r"([<*\[\]])", r"\\\1", " ".join(text.split()))


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def in_words(kind: Any) -> str:
    """A type as a person would say it: ``whole number or null``."""
    of = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is Literal:
        return ", ".join(f"`{name}`" for name in of)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(in_words(one) for one in of)
    if origin is list:
        inner = of[0]
        if typing.get_origin(inner) is list:
            return f"list of lists of {_MANY[typing.get_args(inner)[0]]}"
        if typing.get_origin(inner) in (types.UnionType, typing.Union):
            return "list of " + " or ".join(_MANY[one] for one in typing.get_args(inner))
        return f"list of {_MANY[inner]}"
    if kind is type(None):
        return "null"
    return _NAMES.get(kind, "mapping")


if __name__ == "__main__":
    print(page())
