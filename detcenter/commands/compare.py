"""`detcenter compare`: does it help? Variants of a recipe, each with several seeds."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jsonargparse import Namespace

from detcenter.analysis import (
    Failure,
    compare,
    comparison_figure,
    comparison_json,
    comparison_table,
)
from detcenter.commands.launching import launch_of
from detcenter.errors import ConfigError, nearest
from detcenter.options import compare as options
from detcenter.options.launching import LAUNCHING
from detcenter.recipe.config import Config, differences
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import parse_recipe, with_whole_key, with_whole_names
from detcenter.recipe.variants import variants_of
from detcenter.runs.compared import causes, failures, laid_out, train_runs, units_in, whole
from detcenter.runs.folder import write_whole
from detcenter.runs.launching import Launch
from detcenter.runs.measured import MeasuredRun, measured_run
from detcenter.runs.pooling import pooled_pairs, write_pool
from detcenter.runs.variants import by_recipe, images_of, same_images, scored
from detcenter.training import TrainingError
from detcenter.whole_file import whole_file

_OF_TRAINING = {"config", "set", "seeds", "folds", "vary", *LAUNCHING}


def main(args: Sequence[str]) -> None:
    """Train what is not trained yet, write ``compare.json`` and ``compare.png``, print tables."""
    parser = options.parser()
    args = with_whole_names(parser, args)
    config, arguments = parse_recipe(parser, args)
    if arguments.vary is not None:
        arguments.vary = with_whole_key(parser, arguments.vary)
    need("matplotlib", "plots", "the picture")
    if _pools(args, arguments):
        pairs = pooled_pairs(arguments.pool, arguments.pair, arguments.same_validation or [])
        write_pool(Path(config.output or "runs/pool"), pairs)
        return
    asked = _asked(arguments)
    if arguments.runs:
        _compare_runs(config, args, arguments, asked)
        return
    recipes = variants_of(parser, args, arguments.set or [], arguments.vary)
    vary = arguments.vary and arguments.vary.partition("=")[0]
    seeds = (6 if vary is None else 1) if arguments.seeds is None else arguments.seeds
    _check(config, seeds, arguments.folds, vary)
    _check_baseline(asked.baseline, recipes)
    folder = Path(config.output or f"runs/compare_{Path(str(arguments.config[-1])).stem}")
    launch = launch_of(arguments, folder)
    runs = laid_out(folder, recipes, seeds, arguments.folds, vary)
    _train_and_write(folder, runs, launch, asked._replace(vary=vary))


class _Asked(NamedTuple):
    """What the verdicts are about."""

    baseline: str | None  # the first variant where it is None
    equivalence: float | None  # in [0, 1]
    vary: str | None


def _pools(args: Sequence[str], arguments: Namespace) -> bool:
    """Whether comparisons are put together, which nothing else goes along with."""
    if arguments.pool:
        other = [x for x in _given(args) if x not in ("pool", "pair", "same-validation", "output")]
        if other:
            raise ConfigError(f"--pool reads what is compared already; leave --{other[0]} out")
        return True
    if arguments.pair or arguments.same_validation:
        raise ConfigError("--pair and --same-validation go along with --pool FILE ...")
    return False


def _given(args: Sequence[str]) -> list[str]:
    """The names of the options in ``args``."""
    return [arg[2:].partition("=")[0] for arg in args if arg.startswith("--")]


def _asked(arguments: Namespace) -> _Asked:
    points = arguments.equivalence
    if points is not None and not 0 < points < 100:
        raise ConfigError(f"--equivalence {points:g}: points of AP between 0 and 100, such as 1")
    return _Asked(arguments.baseline, None if points is None else points / 100, None)


def _compare_runs(config: Config, args: Sequence[str], arguments: Namespace, asked: _Asked) -> None:
    usual, _ = parse_recipe(options.parser(), [])
    others = [key for key, _, _ in differences(config, usual) if key != "output"]
    if others or not _OF_TRAINING.isdisjoint(_given(args)):
        raise ConfigError(
            "--runs compares what is trained; leave --config, --set, --seeds, --folds, --vary, "
            "--jobs, --launcher, --slurm and keys of a recipe out"
        )
    runs = by_recipe({Path(run): measured_run(Path(run)) for run in arguments.runs})
    _check_baseline(asked.baseline, runs)
    recipes = {name: {path: run.config for path, run in of.items()} for name, of in runs.items()}
    once = failures(recipes, {}, None)
    _write(Path(config.output or "runs/compare"), runs, asked, once)


def _train_and_write(
    folder: Path,
    runs: Mapping[str, Mapping[Path, Config]],
    launch: Launch,
    asked: _Asked,
) -> None:
    all_runs = {path: run for of in runs.values() for path, run in of.items()}
    failed = train_runs(all_runs, launch, asked.vary)
    left = {name: whole(of, failed, asked.vary) for name, of in runs.items()}
    enough = {
        name: paths for name, paths in left.items() if units_in(runs[name], paths, asked.vary) > 1
    }
    asked = asked._replace(baseline=asked.baseline or next(iter(runs)))
    if len(enough) >= 2 and asked.baseline in enough:
        measured = {name: {p: measured_run(p) for p in of} for name, of in enough.items()}
        _write(folder, measured, asked, failures(runs, failed, asked.vary))
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(all_runs)} runs failed, and are left out with their seed; "
            f"the same command tries them again: {causes(failed)}"
        )


def _check_baseline(name: str | None, variants: Collection[str]) -> None:
    if name is not None and name not in variants:
        raise ConfigError(
            f"--baseline {name}: no variant is called that; {nearest(name, variants)}"
        )


def _check(config: Config, seeds: int, folds: int | None, vary: str | None) -> None:
    if seeds < 1 or (vary is None and seeds < 2):
        raise ConfigError(
            f"--seeds {seeds}: a single seed says nothing about chance; 6 is a good start"
        )
    if config.data.folds is not None:
        raise ConfigError("data.folds is for a single run; give compare --folds instead")
    if folds is not None and folds < 2:
        raise ConfigError(f"--folds {folds}: there are two or more parts")


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
    seeds = sorted({run.config.train.seed for of in runs.values() for run in of.values()})
    values = comparison_json(comparison) | {"vary": asked.vary, "training_seeds": seeds}
    write_whole(folder / "compare.json", json.dumps(values, indent=2, allow_nan=False))
    print(comparison_table(comparison))
    if asked.vary:
        print(
            f"All values of {asked.vary} have the same training seeds "
            f"({', '.join(map(str, seeds))}), which the intervals take as given"
        )
    with whole_file(folder / "compare.png") as file:
        comparison_figure(comparison).savefig(file, format="png")
    print(f"compare.png and compare.json in {folder}")
