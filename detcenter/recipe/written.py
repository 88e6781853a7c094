"""A recipe as a file with comments."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from detcenter.data.errors import printable
from detcenter.recipe.config import Config, config_from_dict
from detcenter.recipe.proposal import Line

_WIDTH = 100


def recipe_text(lines: Mapping[str, Line], header: Sequence[str]) -> str:
    """YAML with a comment above every line that has a reason.

    Args:
        lines: by dotted key.
        header: comments at the top, one a line.
    """
    top = [f"# {printable(line)}" for line in header]
    return "\n".join([*top, *_section(_nested(lines), "", lines)]) + "\n"


def config_of(lines: Mapping[str, Line]) -> Config:
    """The recipe that the text of ``lines`` is."""
    return config_from_dict(_merged(dataclasses.asdict(Config()), _nested(lines)))


def _merged(values: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(values[key], other)
        for key, other in others.items()
        if isinstance(other, dict) and isinstance(values.get(key), dict)
    }
    return values | others | both


def _nested(lines: Mapping[str, Line]) -> dict[str, Any]:
    """The values, as YAML holds them."""
    values: dict[str, Any] = {}
    for key, line in lines.items():
        *sections, name = key.split(".")
        section = values
        for each in sections:
            section = section.setdefault(each, {})
        section[name] = line.value
    return values


def _section(values: Mapping[str, Any], prefix: str, lines: Mapping[str, Line]) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name, value in values.items():
        key = prefix + name
        if key in lines:
            start = f"{indent}# "
            yield from textwrap.wrap(
                printable(lines[key].why), _WIDTH, initial_indent=start, subsequent_indent=start
            )
            yield f"{indent}{name}: {_on_one_line(value)}"
        else:
            yield f"{indent}{name}:"
            yield from _section(value, f"{key}.", lines)


def _on_one_line(value: Any) -> str:
    readable = _dumped(value, allow_unicode=True)
    # Some characters end a line in YAML, and come back as spaces unless they are escaped.
    return readable if readable.isprintable() else _dumped(value, allow_unicode=False)


def _dumped(value: Any, allow_unicode: bool) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=allow_unicode
    )
    return text.removesuffix("\n").removesuffix("\n...")  # the mark that a document ends
