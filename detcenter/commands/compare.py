"""`detcenter compare`: does it help? Variants of a recipe, each with several seeds."""

import copy
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from detcenter.analysis import compare, comparison_figure, comparison_json, comparison_table
from detcenter.data import kept_images
from detcenter.errors import ConfigError
from detcenter.recipe.config import Config, differences, flat
from detcenter.recipe.datasets import training_set, validation_set
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs.folder import check_same_recipe
from detcenter.runs.measured import MeasuredRun, is_measured, measured_run, recipe_of
from detcenter.runs.pooling import pooled_pairs, write_pool
from detcenter.runs.side_by_side import Jobs, train_side_by_side
from detcenter.runs.variants import by_recipe, scored, truth_of
from detcenter.training import TrainingError

# What tells the runs of one variant apart, or has to be the same in all.
_OF_RUNS = {"train.seed", "output", "data.folds", "data.fold", "evaluation.max_detections"}


def main(args: Sequence[str]) -> None:
    """Train what is not trained yet, write ``compare.json`` and ``compare.png``, print tables."""
    parser = recipe_parser(
        "detcenter compare", "Train variants of a recipe with several seeds, and compare them."
    )
    parser.add_argument(
        "--set",
        type=str,
        action="append",
        help="a variant: [NAME:] KEY=VALUE ..., quoted if several; recipe for the recipe as it is",
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs of each variant")
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
    parser.add_argument("--runs", nargs="+", help="compare these folders of finished runs instead")
    parser.add_argument("--pool", nargs="+", help="put these comparisons together instead")
    parser.add_argument("--pair", nargs=2, help="of --pool: two variants, the baseline first")
    parser.add_argument(
        "--same-validation", nargs="+", help="those of --pool that share their validation data"
    )
    config, arguments = parse_recipe(parser, args)
    need("matplotlib", "plots", "the picture")
    if _pools(args, arguments):
        pairs = pooled_pairs(arguments.pool, arguments.pair, arguments.same_validation or [])
        write_pool(Path(config.output or "runs/pool"), pairs)
        return
    jobs = _jobs(arguments.jobs)
    if arguments.runs:
        others = [key for key, _, _ in differences(config, Config()) if key != "output"]
        if arguments.config or arguments.set or arguments.vary or others:
            raise ConfigError(
                "--runs compares what is trained; leave --config, --set, --vary and keys of a "
                "recipe out"
            )
        runs = {Path(run): measured_run(Path(run)) for run in arguments.runs}
        _write(Path(config.output or "runs/compare"), by_recipe(runs))
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
        varied = (parse_recipe(parser, [*args, *overrides, value])[0] for value in each)
        recipes[name] = [own] if vary is None else list(varied)
    _check(config, recipes, arguments.seeds, arguments.folds, vary)
    folder = Path(config.output or f"runs/compare_{Path(str(arguments.config[-1])).stem}")
    _train_and_write(folder, recipes, arguments.seeds, arguments.folds, jobs, vary)


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


def _train_and_write(
    folder: Path,
    recipes: Mapping[str, Sequence[Config]],
    seeds: int,
    folds: int | None,
    jobs: Jobs,
    vary: str | None,
) -> None:
    paths = {name: _as_path(name) for name in recipes}
    _check_paths(paths)
    runs = {
        name: {
            path: run
            for recipe in of_variant
            for path, run in _runs_of(recipe, folder / paths[name], seeds, folds, vary).items()
        }
        for name, of_variant in recipes.items()
    }
    all_runs = {path: run for of in runs.values() for path, run in of.items()}
    failed = _train(all_runs, jobs, vary)
    whole = {name: _whole(of, failed, vary) for name, of in runs.items()}
    enough = {name: paths for name, paths in whole.items() if len(paths) >= 2 * (folds or 1)}
    if len(enough) >= 2:
        measured = {name: {p: measured_run(p) for p in of} for name, of in enough.items()}
        _write(folder, measured, vary)
    if failed:
        names = "; ".join(f"{path}: {why}" for path, why in failed.items())
        raise TrainingError(
            f"{len(failed)} of {len(all_runs)} runs failed, and are left out with their seed; "
            f"the same command tries them again: {names}"
        )


def _check_paths(paths: Mapping[str, str]) -> None:
    """Every variant has a folder of its own, on systems that ignore case too."""
    taken: dict[str, str] = {}
    for name, path in paths.items():
        if not path.strip("."):
            raise ConfigError(f"--set {name}: give it a name with letters or digits, NAME: ...")
        other = taken.setdefault(path.casefold(), name)
        if other != name:
            raise ConfigError(
                f"--set {name} and --set {other} would share the folder {path}; name one otherwise"
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
    wrong = next((part for part in parts if "=" not in part), None)
    if wrong is not None:
        raise ConfigError(f"--set takes KEY=VALUE, such as center.weight=0.3, not {wrong!r}")
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
            f"--seeds {seeds}: a single seed says nothing about chance; 5 is a good start"
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


def _runs_of(
    recipe: Config, folder: Path, seeds: int, folds: int | None, vary: str | None
) -> dict[Path, Config]:
    """Every run of a variant by its folder; seeds count from the recipe's own."""
    recipe, runs = copy.deepcopy(recipe), {}
    if vary is not None:
        unit = f"{vary}={flat(recipe)[vary]}"
        folder /= _as_path(unit)
        if vary.startswith("data.digits."):  # scenes of their own, which are made in their folder
            recipe.data.root = str(Path(recipe.data.root) / unit)
    for seed in range(recipe.train.seed, recipe.train.seed + seeds):
        for fold in range(folds or 1):
            run = copy.deepcopy(recipe)
            path = folder / f"seed_{seed}"
            if folds:
                path = path / f"fold_{fold}"
                run.data.folds, run.data.fold = folds, fold
            run.train.seed, run.output = seed, str(path)
            runs[path] = run
    return runs


def _jobs(given: str | None) -> Jobs:
    if given is None:
        return None
    if given == "auto":
        return "auto"
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"--jobs {given}: a number of runs at a time, from 1, or auto")
    return int(given)


def _train(runs: Mapping[Path, Config], jobs: Jobs, vary: str | None) -> dict[Path, str]:
    for path, config in runs.items():
        if (path / "config.yaml").exists():
            try:
                _check_same(config, recipe_of(path))
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
    due = {path: config for path, config in runs.items() if not is_measured(path)}
    if due:
        _check_data(runs, vary)
    print(f"{len(runs) - len(due)} of {len(runs)} runs are done")
    cached = any(config.data.cache == "ram" for config in due.values())
    try:
        with kept_images() if cached else nullcontext():  # from one run to the next
            return train_side_by_side(due, jobs)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; the same command goes on from there") from None


def _check_same(config: Config, other: Config) -> None:
    check_same_recipe(config, other)
    limits = (of.evaluation.max_detections for of in (config, other))
    if len(set(limits)) > 1:
        raise ConfigError(
            f"evaluation.max_detections is {config.evaluation.max_detections}, but the run was "
            f"measured with {other.evaluation.max_detections}; give the same, or another --output"
        )
    # A run goes on where its data was moved to; here the folder may be what tells variants apart.
    if Path(config.data.root).resolve() != Path(other.data.root).resolve():
        raise ConfigError(
            f"data.root is {config.data.root!r}, but the run was trained on {other.data.root!r}; "
            "give the same, or another --output"
        )


def _check_data(runs: Mapping[Path, Config], vary: str | None) -> None:
    """Before hours of training: whether the variants are measured on the same boxes."""
    first: dict[Any, tuple[Path, Any]] = {}  # by the value of --vary and the fold
    looked_at = set()
    for path, config in runs.items():
        if str(config.data) in looked_at:
            continue
        looked_at.add(str(config.data))
        classes = training_set(config.data).classes
        dataset = validation_set(config.data, classes)
        if not any((~a["iscrowd"] & ~a["difficult"]).any() for a in dataset.annotations):
            raise ConfigError(f"{path}: data.val has no objects, so that there is no AP to compare")
        truth = truth_of(dataset.annotations, classes)
        part = vary and str(flat(config)[vary]), config.data.fold
        other, expected = first.setdefault(part, (path, truth))
        if truth != expected:
            raise ConfigError(
                f"{path} and {other} would be measured on different validation images, boxes or "
                "classes; variants may differ in training data only"
            )


def _whole(runs: Mapping[Path, Config], failed: Mapping[Path, str], vary: str | None) -> list[Path]:
    """The runs of those units (seeds, or values of --vary) of which no run failed."""
    unit = {path: str(flat(config)[vary or "train.seed"]) for path, config in runs.items()}
    without = {unit[path] for path in failed if path in runs}
    return [path for path in runs if unit[path] not in without]


def _write(
    folder: Path, runs: Mapping[str, Mapping[Path, MeasuredRun]], vary: str | None = None
) -> None:
    variants = scored(runs, vary)
    for variant in variants:
        if len(variant.seeds) < 2:
            raise ConfigError(
                f"{variant.name} has {len(variant.seeds)} seed: a single one says nothing about "
                "chance; 5 are a good start"
            )
    classes = next(run.classes for of in runs.values() for run in of.values())
    comparison = compare(variants, classes)
    folder.mkdir(parents=True, exist_ok=True)
    values = comparison_json(comparison) | {"vary": vary}
    (folder / "compare.json").write_text(json.dumps(values, indent=2, allow_nan=False))
    print(comparison_table(comparison))
    comparison_figure(comparison).savefig(folder / "compare.png")
    print(f"compare.png and compare.json in {folder}")


def _as_path(name: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", name).strip("_")
