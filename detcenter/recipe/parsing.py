"""From a recipe file and a command line to a :class:`Config`, or to one line that says why not."""

import argparse
import dataclasses
import os
import re
import typing
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from detcenter.errors import ConfigError
from detcenter.recipe.config import (
    RENAMED,
    RENAMED_OF_TERMS,
    CenterConfig,
    Config,
    DataConfig,
    LossConfig,
    flat,
)
from detcenter.recipe.keys import all_keys, in_words, nearest_in_words, section_in, whole_names
from detcenter.recipe.shipped import recipe_file

DATA = "DETCENTER_DATA"
"""In the environment: a folder that a ``data.root`` which is not absolute is looked for in."""

# Smallest sensible values; what a builder checks itself is not repeated here.
_LEAST: dict[str, float] = {
    "center.vote": 0,
    "data.digits.seed": 0,
    "data.fold": 0,
    "data.folds": 2,
    "data.digits.train": 1,
    "data.digits.val": 1,
    "data.workers": 0,
    "evaluation.iou": 1e-6,
    "evaluation.max_detections": 1,
    "evaluation.score": 0,
    "every": 1,
    "model.min_negatives": 0,
    "show": 0,
    "train.accumulate": 1,
    "train.backbone_lr_factor": 0,
    "train.batch_size": 1,
    "train.clip_grad_norm": 1e-6,
    "train.epochs": 1,
    "train.eval_every": 1,
    "train.gamma": 0,
    "train.lr": 0,
    "train.momentum": 0,
    "train.save_every_minutes": 0,
    "train.save_every_steps": 1,
    "train.seed": 0,
    "train.warmup_steps": 0,
    "train.weight_decay": 0,
    "workers": 0,
}
_MOST: dict[str, float] = {"center.vote": 1, "evaluation.iou": 1}
_OF_TRAINING = {"classes", "keep_difficult", "augment"}


class UnknownKey(ConfigError):
    """A key of a recipe, or an option, that a command does not take."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class Parser(ArgumentParser):
    """One whose errors are :class:`ConfigError`, and which knows the keys of a recipe in it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.keys: list[str] = []
        """dotted names, of sections too"""
        super().__init__(*args, **kwargs)

    def add_keys(self, of: type, section: str | None = None, skip: Collection[str] = ()) -> None:
        """Let it take the keys of a dataclass, but for those of ``skip``."""
        self.add_class_arguments(of, section, skip=set(skip))
        prefix = "" if section is None else f"{section}."
        names = [key.name for key in all_keys(of) if key.name.partition(".")[0] not in skip]
        self.keys += [*([section] if section else []), *(prefix + name for name in names)]

    def error(self, message: str, ex: Exception | None = None) -> typing.NoReturn:
        raise ConfigError(_readable(message))


def recipe_parser(prog: str, description: str) -> Parser:
    """A parser for ``--config FILE`` and every key of :class:`Config`."""
    parser = Parser(prog=prog, description=description)
    what = "the recipe: a YAML file, or the name of one that comes with detcenter, such as digits"
    parser.add_argument("--config", action="config", metavar="RECIPE", help=what)
    parser.add_keys(Config)
    return parser


def keys_parser(prog: str, description: str) -> Parser:
    """A parser for every key of :class:`Config` but ``output``, without a recipe."""
    parser = Parser(prog=prog, description=description)
    parser.add_keys(Config, skip={"output"})
    return parser


def data_parser(
    prog: str, description: str, defaults: DataConfig, skip: Collection[str] = _OF_TRAINING
) -> Parser:
    """A parser for ``--data.KEY``, but for those of ``skip``, which keep their own defaults.

    Unless told otherwise it skips what evaluation does not read.
    """
    parser = Parser(prog=prog, description=description)
    parser.add_keys(DataConfig, "data", skip)
    values = dataclasses.asdict(defaults)
    parser.set_defaults({f"data.{k}": v for k, v in values.items() if k not in skip})
    return parser


def add_vote(parser: Parser, center: CenterConfig | None) -> None:
    """Let ``parser`` take ``--center.vote``, by default what ``center`` has."""
    others = {f.name for f in dataclasses.fields(CenterConfig)} - {"vote"}
    parser.add_keys(CenterConfig, "center", others)
    parser.set_defaults({"center.vote": center and center.vote})


def parse_any(parser: Parser, args: Sequence[str]) -> Namespace:
    """As :func:`parse_recipe` or :func:`parse`, whichever is for ``parser``."""
    return parse_recipe(parser, args)[1] if "train" in parser.keys else parse(parser, args)


def parse_recipe(parser: Parser, args: Sequence[str]) -> tuple[Config, Namespace]:
    """The recipe that ``args`` ask for, and all arguments.

    Raises:
        ConfigError: naming the key and, if it is unknown, its nearest neighbour.
    """
    arguments = parse(parser, _recipe_first(args))
    config = Config(**{f.name: arguments[f.name] for f in dataclasses.fields(Config)})
    _check_nulls(config)
    return config, arguments


def with_whole_names(parser: Parser, args: Sequence[str]) -> list[str]:
    """``args`` with the names that ``parser`` has for its options, and for keys of a recipe.

    Raises:
        ConfigError: for a short name that several keys have.
    """
    own = option_names(parser)
    try:
        return whole_names(args, [*parser.keys, *own], own)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def with_whole_key(parser: Parser, text: str) -> str:
    """``KEY=VALUES`` with the whole name of its key."""
    return with_whole_names(parser, [f"--{text}"])[0].removeprefix("--")


def option_names(parser: Parser) -> list[str]:
    """Without the dashes in front."""
    return [o.lstrip("-") for action in parser._actions for o in action.option_strings]


def known_as(parser: Parser, option: str) -> str | None:
    """The name that ``parser`` has for an option or a key; None if it does not take it."""
    try:
        name = with_whole_names(parser, [f"--{option}"])[0].removeprefix("--")
    except ConfigError:  # a short name of several keys
        return option
    return name if _is_known(name, [*parser.keys, *option_names(parser)]) else None


def given_keys(config: Config, args: Sequence[str]) -> dict[str, Any]:
    """Of ``config``, which ``args`` were parsed to, the keys but ``output`` that they name."""
    named = [arg.removeprefix("--").partition("=")[0] for arg in args if arg.startswith("--")]
    return {
        key: value
        for key, value in flat(config).items()
        if key != "output" and any(key == name or key.startswith(f"{name}.") for name in named)
    }


def data_of_recipe(prog: str, args: Sequence[str]) -> DataConfig:
    """The data section of the recipe that ``--config`` in ``args`` names, without its folds.

    Without a recipe, the defaults. The images are cut into folds where they are read, and classes
    are left out there.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", nargs="?")
    recipe = finder.parse_known_args(args)[0].config
    if recipe is None:
        return DataConfig()
    config, _ = parse_recipe(recipe_parser(prog, ""), ["--config", recipe])
    return dataclasses.replace(config.data, folds=None, unknown=None)


def parse(parser: Parser, args: Sequence[str]) -> Namespace:
    """Parsed and instantiated ``args``.

    Raises:
        ConfigError: see :func:`parse_recipe`.
    """
    args = _with_files(with_whole_names(parser, args))
    _check_keys(args, parser.keys, option_names(parser))
    try:
        namespace = parser.parse_args(list(args))
        for key, least in _LEAST.items():
            if isinstance(namespace.get(key), int | float) and not namespace[key] >= least:  # nan
                raise ConfigError(f"{key} is {namespace[key]}, the least is {least}")
        for key, most in _MOST.items():
            if isinstance(namespace.get(key), int | float) and namespace[key] > most:
                raise ConfigError(f"{key} is {namespace[key]}, the most is {most}")
        return _with_found_root(parser.instantiate(namespace))
    except (ArgumentError, TypeError) as error:  # TypeError: a section that is a list, say
        raise ConfigError(_readable(str(error))) from None


def _with_found_root(arguments: Namespace) -> Namespace:
    """With the ``data.root`` that is below $DETCENTER_DATA, if it is there."""
    data = arguments.get("data")
    if isinstance(data, DataConfig):
        elsewhere = Path(os.environ.get(DATA, ""), data.root)
        if os.environ.get(DATA) and elsewhere.exists():
            data.root = str(elsewhere)
    return arguments


def _with_files(args: Sequence[str]) -> list[str]:
    """``args``, the name of a recipe that comes with the package replaced by its file."""
    found = [*args]
    for i, arg in enumerate(args):
        if arg.startswith("--config="):
            found[i] = f"--config={recipe_file(arg.removeprefix('--config='))}"
        elif arg == "--config" and i + 1 < len(args):
            found[i + 1] = recipe_file(args[i + 1])
    return found


def _recipe_first(args: Sequence[str]) -> list[str]:
    """The recipe before what overrides it; the parser takes arguments in their order."""
    places = [i for i, arg in enumerate(args) if arg == "--config" or arg.startswith("--config=")]
    if len(places) > 1:
        raise ConfigError("--config is given more than once; a run has one recipe")
    if not places:
        return list(args)
    start, end = places[0], places[0] + (1 if "=" in args[places[0]] else 2)
    return [*args[start:end], *args[:start], *args[end:]]


def _check_keys(args: Sequence[str], keys: list[str], options: list[str]) -> None:
    """Unknown keys of recipe files and command line, before the parser sees them."""
    arguments, known = iter(args), [*keys, *options]
    for argument in arguments:
        key, _, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and not _is_known(key.partition("+")[0], known):
            raise UnknownKey(_unknown(f"--{key}", key, known), key)
        if argument.startswith("--config"):
            _check_file(Path(value or next(arguments, "")), keys)


def _check_file(path: Path, known: list[str]) -> None:
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(_one_line(f"{path} is not YAML: {error}")) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no recipe: sections such as model, data and train are due")
    _check_section(Config, values, "", path, known)


def _check_section(
    cls: type, values: dict[Any, Any], prefix: str, path: Path, known: list[str]
) -> None:
    kinds = {f.name: f.type for f in dataclasses.fields(cls)}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in kinds:
            raise UnknownKey(f"{path}: {_unknown(f'key {name!r}', name, known)}", name)
        section = section_in(kinds[key])
        if section is None or (value is None and type(None) in typing.get_args(kinds[key])):
            continue
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {name} is a section of keys, not {value!r}")
        if typing.get_origin(kinds[key]) is not dict:
            _check_section(section, value, f"{name}.", path, known)
            continue
        for given, item in value.items():
            if not isinstance(item, dict):
                raise ConfigError(f"{path}: {name}.{given} is a section of keys, not {item!r}")
            _check_section(section, item, f"{name}.{given}.", path, known)


def _check_nulls(section: Any, prefix: str = "") -> None:
    """A section's keys take null only where their type says so; the parser lets all pass."""
    for f in dataclasses.fields(section):
        value = getattr(section, f.name)
        if value is None and type(None) not in typing.get_args(f.type):
            raise ConfigError(f"{prefix}{f.name} is null, but needs a value")
        if dataclasses.is_dataclass(value):
            _check_nulls(value, f"{prefix}{f.name}.")
        elif section_in(f.type) is not None and value is not None:
            for name, item in value.items():
                _check_nulls(item, f"{prefix}{f.name}.{name}.")


@cache
def _kinds() -> dict[str, Any]:
    """The type of every key by its dotted name; NAME stands for a name of the user's choice."""
    return {key.name: key.kind for key in all_keys()}


def _is_known(key: str, known: Sequence[str]) -> bool:
    first, *rest = key.split(".")
    named = ".".join([first, "NAME", *rest[1:]])
    # Arguments of a builder may have any name; it knows them.
    return key in known or named in known or key.startswith("model.options.")


def _unknown(what: str, key: str, known: list[str]) -> str:
    section, _, name = key.rpartition(".")
    if name in RENAMED_OF_TERMS and section.partition(".")[0] in ("", "center", "terms"):
        return f"{what} has another name now: {key.removesuffix(name)}{RENAMED_OF_TERMS[name]}"
    now = next((new for old, new in RENAMED.items() if key in (old, old.rpartition(".")[2])), None)
    if now is not None:
        return f"{what} has another name now: {now}"
    return f"unknown {what}; {nearest_in_words(key, known)}"


def _readable(message: str) -> str:
    """The parser's complaint about a value in the words of a recipe; others as they are."""
    line = _one_line(message)
    if line.startswith('Parser key "terms"') and "Subclass types" in line:
        return "terms maps names of your choice to sections of keys, see docs/terms.md"
    recipe = re.match(r"[Uu]nrecognized arguments: (\S+\.ya?ml)$", line)
    if recipe:
        return f"{recipe[1]}: a recipe is given as --config {recipe[1]}"
    unknown = re.match(r"Parser key \"terms\": Option '(\w+)' is not accepted", line)
    if unknown:
        return _unknown(
            f"key {unknown[1]!r} of a term", unknown[1], [key.name for key in all_keys(LossConfig)]
        )
    found = re.match(r'Parser key "([\w.]+)".*(?:Got|Given) value: (.*)', line)
    kinds = _kinds()
    if found is None or found[1] not in kinds:
        return line
    inner = re.match(r'Parser key "terms": Parser key "(\w+)"', line)
    if inner:
        kind = kinds[f"terms.NAME.{inner[1]}"]
        return f"{inner[1]} of a term in terms takes {_a(kind)}, not {found[2]}"
    nested = re.match(r"NestedArg\(key='([\w.]+)', val='?(.*?)'?\)", found[2])
    if nested and f"{found[1]}.{nested[1]}" in kinds:  # a key of a section that may be null
        key = f"{found[1]}.{nested[1]}"
        return f"{key} takes {_a(kinds[key])}, not {nested[2]}"
    kind = kinds[found[1]]
    if any(dataclasses.is_dataclass(k) for k in (kind, *typing.get_args(kind))):
        null = ", or null" if type(None) in typing.get_args(kind) else ""
        return f"{found[1]} is a section of keys, see --{found[1]}.help{null}, not {found[2]}"
    return f"{found[1]} takes {_a(kind)}, not {found[2]}"


def _a(kind: Any) -> str:
    """A type in words, with its article."""
    words = in_words(kind)
    return f"a {words}" if words.startswith(("whole", "number", "list", "section")) else words


def _one_line(message: str) -> str:
    return " ".join(message.split())
