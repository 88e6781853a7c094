"""Which commands take an option that another one was given."""

from collections.abc import Iterator, Sequence
from importlib import import_module

from detcenter.errors import ConfigError
from detcenter.recipe.keys import NONE_LIKE_IT
from detcenter.recipe.parsing import Parser, UnknownKey, known_as


def with_its_commands(error: UnknownKey, commands: Sequence[str]) -> ConfigError:
    """``error``, and which of ``commands`` take such an option."""
    names = {command: _name(command, error.key) for command in commands}
    taking = [command for command, name in names.items() if name is not None]
    if not taking:
        return error
    listed = " or ".join(filter(None, [", ".join(taking[:-1]), taking[-1]]))
    said = str(error).removesuffix(f"; {NONE_LIKE_IT}")
    return ConfigError(f"{said}; --{names[taking[0]]} is of detcenter {listed}")


def _name(command: str, option: str) -> str | None:
    """What the command calls it."""
    names = (known_as(parser, option) for parser in _parsers(command))
    return next((name for name in names if name is not None), None)


def _parsers(command: str) -> Iterator[Parser]:
    options = import_module(f"detcenter.options.{command}")
    yield options.parser()
    if hasattr(options, "apply_parser"):
        yield options.apply_parser()
