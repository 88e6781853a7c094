"""`detcenter compare`: does it help? Variants of a recipe, each with several seeds."""

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jsonargparse import ArgumentParser, Namespace

from detcenter.analysis import (
    Failure,
    compare,
    comparison_figure,
    comparison_json,
    comparison_table,
)
from detcenter.errors import ConfigError
from detcenter.recipe.config import Config, differences, flat
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs.compared import failures, laid_out, train_runs, units_in, whole
from detcenter.runs.measured import MeasuredRun, measured_run
from detcenter.runs.pooling import pooled_pairs, write_pool
from detcenter.runs.side_by_side import Jobs
from detcenter.runs.variants import by_recipe, images_of, same_images, scored
from detcenter.training import TrainingError

# What tells the runs of one variant apart, or has to be the same in all.
_OF_RUNS = {"train.seed", "output", "data.folds", "data.fold", "evaluation.max_detections"}
_OF_TRAINING = {"config", "set", "seeds", "folds", "jobs", "vary"}
_OPTIONS = _OF_TRAINING | {"baseline", "equivalence", "runs", "pool", "pair", "same-validation"}


def main(args: Sequence[str]) -> None:
    """Train what is not trained yet, write ``compare.json`` and ``compare.png``, print tables."""
    parser = _parser()
    config, arguments = parse_recipe(parser, args)
    need("matplotlib", "plots", "the picture")
    if _pools(args, arguments):
        pairs = pooled_pairs(arguments.pool, arguments.pair, arguments.same_validation or [])
        write_pool(Path(config.output or "runs/pool"), pairs)
        return
    jobs, asked = _jobs(arguments.jobs), _asked(arguments)
    if arguments.runs:
        _compare_runs(config, args, arguments, asked)
        return
    if not arguments.config:
        raise ConfigError("--config FILE or --runs FOLDER ... is missing: what is compared")
    vary, values = _varied(arguments.vary)
    recipes: dict[str, list[Config]] = {}  # of a variant: one, or one a value of --vary
    for text in arguments.set or []:
        name, overrides = _named(text)
        if name in recipes:
            raise ConfigError(f"--set {name} is there twice; every variant is trained once")
        own = parse_recipe(parser, [*args, *overrides])[0]
        _check_keys(name, own, config, vary)
        each = [f"--{vary}={value}" for value in values]
        varied = [parse_recipe(parser, [*args, *overrides, value])[0] for value in each]
        if vary is not None:
            _check_varied(name, own, varied, vary)
        recipes[name] = varied or [own]
    _check(config, recipes, arguments.seeds, arguments.folds, vary)
    _check_baseline(asked.baseline, recipes)
    folder = Path(config.output or f"runs/compare_{Path(str(arguments.config[-1])).stem}")
    runs = laid_out(folder, recipes, arguments.seeds, arguments.folds, vary)
    _train_and_write(folder, runs, jobs, asked._replace(vary=vary))


class _Asked(NamedTuple):
    """What the verdicts are about."""

    baseline: str | None  # the first variant where it is None
    equivalence: float | None  # in [0, 1]
    vary: str | None


def _parser() -> ArgumentParser:
    parser = recipe_parser(
        "detcenter compare", "Train variants of a recipe with several seeds, and compare them."
    )
    parser.add_argument(
        "--set",
        type=str,
        action="append",
        help="a variant: [NAME:] KEY=VALUE ..., quoted if several; recipe for the recipe as it is",
    )
    parser.add_argument("--seeds", type=int, default=6, help="runs of each variant")
    parser.add_argument(
        "--folds", type=int, help="cut data.train and data.val into this many parts instead"
    )
    parser.add_argument(
        "--jobs",
        type=str,
        help="runs at a time; null is one a GPU, auto as many as pay",
    )
    parser.add_argument(
        "--vary",
        type=str,
        help="KEY=1..8 or KEY=A,B,C: data sets, say, which are then paired in place of the seeds",
    )
    parser.add_argument(
        "--baseline",
        type=str,
        help="the variant that all others are judged against; else the first",
    )
    parser.add_argument(
        "--equivalence",
        type=float,
        help="points of AP; say so where a difference is surely smaller",
    )
    parser.add_argument("--runs", nargs="+", help="compare these folders of finished runs instead")
    parser.add_argument("--pool", nargs="+", help="put these comparisons together instead")
    parser.add_argument("--pair", nargs=2, help="of --pool: two variants, the baseline first")
    parser.add_argument(
        "--same-validation", nargs="+", help="those of --pool that share their validation data"
    )
    return parser


def _pools(args: Sequence[str], arguments: Namespace) -> bool:
    """Whether comparisons are put together, which nothing else goes along with."""
    with_pool = {"--pool", "--pair", "--same-validation", "--output"}
    named = [arg.partition("=")[0] for arg in args if arg.startswith("--")]
    if arguments.pool:
        other = next((name for name in named if name not in with_pool), None)
        if other is not None:
            raise ConfigError(f"--pool reads what is compared already; leave {other} out")
        return True
    if arguments.pair or arguments.same_validation:
        raise ConfigError("--pair and --same-validation go along with --pool FILE ...")
    return False


def _asked(arguments: Namespace) -> _Asked:
    points = arguments.equivalence
    if points is not None and not 0 < points < 100:
        raise ConfigError(f"--equivalence {points:g}: points of AP between 0 and 100, such as 1")
    return _Asked(arguments.baseline, None if points is None else points / 100, None)


def _compare_runs(config: Config, args: Sequence[str], arguments: Namespace, asked: _Asked) -> None:
    others = [key for key, _, _ in differences(config, Config()) if key != "output"]
    named = {arg.removeprefix("--").partition("=")[0] for arg in args if arg.startswith("--")}
    if named & _OF_TRAINING or others:
        raise ConfigError(
            "--runs compares what is trained; leave --config, --set, --seeds, --folds, --jobs, "
            "--vary and keys of a recipe out"
        )
    runs = by_recipe({Path(run): measured_run(Path(run)) for run in arguments.runs})
    _check_baseline(asked.baseline, runs)
    recipes = {name: {path: run.config for path, run in of.items()} for name, of in runs.items()}
    once = failures(recipes, {}, None)
    _write(Path(config.output or "runs/compare"), runs, asked, once)


def _train_and_write(
    folder: Path,
    runs: Mapping[str, Mapping[Path, Config]],
    jobs: Jobs,
    asked: _Asked,
) -> None:
    all_runs = {path: run for of in runs.values() for path, run in of.items()}
    failed = train_runs(all_runs, jobs, asked.vary)
    left = {name: whole(of, failed, asked.vary) for name, of in runs.items()}
    enough = {
        name: paths for name, paths in left.items() if units_in(runs[name], paths, asked.vary) > 1
    }
    asked = asked._replace(baseline=asked.baseline or next(iter(runs)))
    if len(enough) >= 2 and asked.baseline in enough:
        measured = {name: {p: measured_run(p) for p in of} for name, of in enough.items()}
        _write(folder, measured, asked, failures(runs, failed, asked.vary))
    if failed:
        names = "; ".join(f"{path}: {why}" for path, why in failed.items())
        raise TrainingError(
            f"{len(failed)} of {len(all_runs)} runs failed, and are left out with their seed; "
            f"the same command tries them again: {names}"
        )


def _check_baseline(name: str | None, variants: Collection[str]) -> None:
    if name is not None and name not in variants:
        raise ConfigError(
            f"--baseline {name}: no variant is called that; there are {', '.join(variants)}"
        )


def _named(text: str) -> tuple[str, list[str]]:
    """The name of a variant, its own or all of its keys and values, and its command line."""
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
        if "=" not in part or part.partition("=")[0] in _OPTIONS:
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


def _check(
    config: Config,
    recipes: Mapping[str, Sequence[Config]],
    seeds: int,
    folds: int | None,
    vary: str | None,
) -> None:
    if len(recipes) < 2:
        raise ConfigError("--set is due twice or more: a comparison has two variants at least")
    if seeds < 1 or (vary is None and seeds < 2):
        raise ConfigError(
            f"--seeds {seeds}: a single seed says nothing about chance; 6 is a good start"
        )
    if config.data.folds is not None:
        raise ConfigError("data.folds is for a single run; give compare --folds instead")
    if folds is not None and folds < 2:
        raise ConfigError(f"--folds {folds}: there are two or more parts")
    names = list(recipes)
    for i, name in enumerate(names):
        for other in names[:i]:
            if not list(differences(recipes[name][0], recipes[other][0])):
                raise ConfigError(f"--set {name} and --set {other} are the same recipe")


def _jobs(given: str | None) -> Jobs:
    if given is None:
        return None
    if given == "auto":
        return "auto"
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"--jobs {given}: a number of runs at a time, from 1, or auto")
    return int(given)


def _write(
    folder: Path,
    runs: Mapping[str, Mapping[Path, MeasuredRun]],
    asked: _Asked,
    failed: Sequence[Failure],
) -> None:
    variants = scored(runs, asked.vary)
    for variant in variants:
        if len(variant.seeds) < 2:
            raise ConfigError(
                f"{variant.name} has {len(variant.seeds)} seed: a single one says nothing about "
                "chance; 6 are a good start"
            )
    comparison = compare(
        variants,
        next(run.classes for of in runs.values() for run in of.values()),
        images_of(runs, asked.vary) if same_images(variants) else None,
        asked.baseline,
        asked.equivalence,
        failed,
        f"values of {asked.vary}" if asked.vary else "seeds",
    )
    folder.mkdir(parents=True, exist_ok=True)
    values = comparison_json(comparison) | {"vary": asked.vary}
    (folder / "compare.json").write_text(json.dumps(values, indent=2, allow_nan=False))
    print(comparison_table(comparison))
    comparison_figure(comparison).savefig(folder / "compare.png")
    print(f"compare.png and compare.json in {folder}")
