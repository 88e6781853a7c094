"""`--help` on one page, and `--help-all`."""

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from detcenter.recipe.keys import Key, all_keys, in_words, section_in, short_names
from detcenter.recipe.parsing import Parser, option_names

_WIDEST = 100
_LEFT = 26  # letters of an option; a longer one has its meaning in the next line


def help_page(parser: Parser, common: Sequence[str], args: Sequence[str]) -> str | None:
    """What a command takes, if ``args`` ask for that.

    Args:
        common: keys of a recipe that ``--help`` tells; ``--help-all`` tells all, and
            ``--center.help`` those of a section.
    """
    keys = [key for key in all_keys() if key.name in parser.keys and not _holds_keys(key, parser)]
    sections = [arg[2:].removesuffix(".help") for arg in args if _of_section(arg)]
    if sections:
        inside = [key for key in keys if key.name.startswith(f"{sections[0]}.")]
        return "\n".join(_rows_of_keys(inside, parser, whole=True)).strip()
    whole = "--help-all" in args
    if not whole and not {"-h", "--help"} & {*args}:
        return None
    shown = [key for key in keys if whole or key.name in common]
    lines = [f"usage: {_usage(parser)}", "", *_wrapped(parser.description), ""]
    lines += [row for action in _own(parser) for row in _row_of_option(action)]
    if shown:
        lines += ["", *_wrapped(_about_keys(parser)), *_rows_of_keys(shown, parser, whole)]
    if len(shown) < len(keys):
        lines += ["", f"{parser.prog} --help-all tells all keys."]
    return "\n".join(lines)


def _of_section(arg: str) -> bool:
    return arg.startswith("--") and arg.endswith(".help")


def _holds_keys(key: Key, parser: Parser) -> bool:
    """Whether a section is there for its keys alone: it cannot be null."""
    can_be_null = key.name == "center" and "train" in parser.keys
    return section_in(key.kind) is not None and not can_be_null


def _about_keys(parser: Parser) -> str:
    if "checkpoint" in option_names(parser) and "train" not in parser.keys:
        return "Keys of the recipe; those of the checkpoint stand unless they are given:"
    if parser.prog == "detcenter init":
        return "Keys of the recipe; those that are given are kept, the others found out:"
    return "Keys of the recipe, in brackets the whole name and the default:"


def _own(parser: Parser) -> list[argparse.Action]:
    """The options of the command, not the keys of a recipe; what has no name comes first."""
    own = []
    for action in parser._actions:
        names = [name.lstrip("-") for name in action.option_strings]
        added = {"help", "print_config", *parser.keys}
        if action.help != argparse.SUPPRESS and not any(
            name in added or name.endswith(".help") for name in names
        ):
            own.append(action)
    return sorted(own, key=lambda action: bool(action.option_strings))


def _usage(parser: Parser) -> str:
    own = _own(parser)
    config = [a for a in own if "--config" in a.option_strings and "train" in parser.keys]
    needed = [a for a in own if a.required and a.option_strings]
    places = [_as_given(a) for a in own if not a.option_strings]
    return " ".join([parser.prog, *map(_as_given, [*config, *needed]), "[OPTIONS]", *places])


def _as_given(action: argparse.Action) -> str:
    """An option as a person writes it, with what follows it."""
    name = max(action.option_strings, key=len, default="")
    metavar: Any = action.metavar or (action.dest if not name else action.dest.upper())
    if action.choices and action.metavar is None:
        metavar = "|".join(map(str, action.choices))
    count = action.nargs if isinstance(action.nargs, int) else 1
    values = " ".join((metavar,) * count if isinstance(metavar, str) else metavar)
    many = {"+": f"{values} ...", "*": f"[{values} ...]", "?": f"[{values}]"}
    return f"{name} {many.get(str(action.nargs), values)}".strip()


def _row_of_option(action: argparse.Action) -> Iterator[str]:
    meaning = " ".join((action.help or "").split())
    if action.option_strings and action.default not in (None, False, argparse.SUPPRESS):
        meaning += f" [{_value(action.default)}]"
    return _row(_as_given(action), meaning)


def _rows_of_keys(keys: Sequence[Key], parser: Parser, whole: bool) -> Iterator[str]:
    """A section after the other, with types, if the ``whole`` list is told."""
    own = [name.replace("-", "_") for action in _own(parser) for name in _names(action)]
    found = short_names([*parser.keys, *own])
    short = {keys[0]: name for name, keys in found.items() if len(keys) == 1}
    has_defaults = "train" in parser.keys and parser.prog != "detcenter init"
    section = ""
    for key in keys:
        if whole and key.name.rpartition(".")[0] != section:
            section = key.name.rpartition(".")[0]
            yield from ("", f"{section}:")
        given = short.get(key.name, key.name)
        notes = [] if given == key.name else [key.name]
        notes += [in_words(key.kind)] if whole else []
        if has_defaults and section_in(key.kind) is None:
            notes.append(_value(key.default))
        option = given if "." in given else given.replace("_", "-")
        yield from _row(f"--{option}", key.meaning + (f" [{'; '.join(notes)}]" if notes else ""))


def _names(action: argparse.Action) -> list[str]:
    return [name.lstrip("-") for name in action.option_strings]


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("'", "")


def _row(left: str, meaning: str) -> Iterator[str]:
    first = f"  {left}".ljust(_LEFT + 2)
    lines = _wrapped(meaning, " " * (_LEFT + 4))
    if len(left) <= _LEFT and lines:
        yield f"{first}  {lines[0].lstrip()}"
        yield from lines[1:]
    else:
        yield first.rstrip()
        yield from lines


def _wrapped(text: str | None, indent: str = "") -> list[str]:
    width = max(60, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))
    return textwrap.wrap(
        text or "", width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
