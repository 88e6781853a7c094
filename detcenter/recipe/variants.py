"""Variants of a recipe, as a person gives them on the command line: --set and --vary."""

import dataclasses
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from detcenter.errors import ConfigError
from detcenter.recipe.config import Config, differences, flat
from detcenter.recipe.parsing import Parser, parse_recipe, with_whole_names

# What tells the runs of one variant apart, or has to be the same in all.
_OF_RUNS = {"train.seed", "output", "data.folds", "data.fold", "evaluation.max_detections"}


def variants_of(
    parser: Parser, args: Sequence[str], texts: Sequence[str], vary: str | None
) -> dict[str, list[Config]]:
    """The recipes of every variant by its name: one, or one for each value of ``vary``.

    Args:
        parser: of the recipe, and of the command's own options.
        args: the whole command line.
        texts: of ``--set``: ``[NAME:] KEY=VALUE ...``, or ``recipe``.
        vary: of ``--vary``: ``KEY=1..8`` or ``KEY=A,B,C``.

    Raises:
        ConfigError: for what is no key or value, for fewer than two variants, and for two that are
            the same.
    """
    config, arguments = parse_recipe(parser, args)
    options = vars(arguments).keys() - {field.name for field in dataclasses.fields(Config)}
    key, values = _varied(vary)
    variants: dict[str, list[Config]] = {}
    for text in texts:
        name, overrides = _named(text, options)
        overrides = with_whole_names(parser, overrides)
        if name in variants:
            raise ConfigError(f"--set {name} is there twice; every variant is trained once")
        own = parse_recipe(parser, [*args, *overrides])[0]
        _check_keys(name, own, config, key)
        each = [f"--{key}={value}" for value in values]
        varied = [parse_recipe(parser, [*args, *overrides, value])[0] for value in each]
        if key is not None:
            _check_varied(name, own, varied, key)
        variants[name] = varied or [own]
    _check_apart(variants)
    return variants


def _named(text: str, options: Collection[str]) -> tuple[str, list[str]]:
    """The name of a variant, its own or all of its keys and values, and its command line.

    Args:
        options: of the command, which are no keys of the recipe.
    """
    own = re.match(r"([^=:]+):\s+", text)
    try:
        parts = shlex.split(text[own.end() :] if own else text)
    except ValueError as error:
        raise ConfigError(f"--set {text}: {error}") from None
    if parts == ["recipe"]:
        parts = []
    elif not parts:
        raise ConfigError(f"--set {text!r} is empty; recipe stands for the recipe as it is")
    for part in parts:
        if "=" not in part or part.partition("=")[0].replace("-", "_") in options:
            raise ConfigError(
                f"--set takes KEY=VALUE of the recipe, such as center.weight=0.3, not {part!r}"
            )
    return own[1] if own else text, [f"--{part}" for part in parts]


def _varied(text: str | None) -> tuple[str | None, list[str]]:
    """The key of ``--vary`` and its values."""
    if text is None:
        return None, []
    key, _, values = text.partition("=")
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", values)
    if numbers:
        found = [str(n) for n in range(int(numbers[1]), int(numbers[2]) + 1)]
    else:
        found = [value.strip() for value in values.split(",")]
    if key in _OF_RUNS or len(found) < 2 or len(set(found)) < len(found) or "" in found:
        raise ConfigError(
            f"--vary takes a key of the recipe and two or more different values, such as "
            f"data.digits.seed=1..8 or data.root=data/a,data/b, not {text!r}"
        )
    return key, found


def _check_keys(name: str, recipe: Config, config: Config, vary: str | None) -> None:
    for key, value, _ in differences(recipe, config):
        if key in _OF_RUNS or key == vary:
            raise ConfigError(f"--set {name}: {key} {value!r} is not for a variant to choose")


def _check_varied(name: str, recipe: Config, varied: Sequence[Config], vary: str) -> None:
    """Whether all differ, and in that key alone: another may bring back a section that is null."""
    changed = {key for other in varied for key, _, _ in differences(other, recipe)}
    if vary not in flat(varied[0]) or not changed <= {vary}:
        raise ConfigError(f"--vary {vary}: the recipe of {name} has no such key of a single value")
    values = [flat(other)[vary] for other in varied]
    if isinstance(values[0], list):
        raise ConfigError(f"--vary {vary}: its values are lists; vary a key of single values")
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ConfigError(f"--vary {vary}: {twice} is there twice, written otherwise")


def _check_apart(variants: Mapping[str, Sequence[Config]]) -> None:
    if len(variants) < 2:
        raise ConfigError("--set is due twice or more: a comparison has two variants at least")
    for name, other in combinations(variants, 2):
        if not list(differences(variants[other][0], variants[name][0])):
            raise ConfigError(f"--set {other} and --set {name} are the same recipe")
