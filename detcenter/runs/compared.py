"""The runs of a comparison: where each lies, what it is trained on, and which of them failed."""

import copy
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from detcenter.analysis import Failure
from detcenter.data import kept_images
from detcenter.errors import ConfigError
from detcenter.recipe.config import Config, flat
from detcenter.recipe.datasets import training_set, validation_set
from detcenter.runs.folder import FAILED, check_same_recipe
from detcenter.runs.launching import Launch, launched
from detcenter.runs.lending import borrowers
from detcenter.runs.measured import is_measured, recipe_of
from detcenter.runs.variants import truth_of
from detcenter.training import TrainingError


def laid_out(
    folder: Path,
    recipes: Mapping[str, Sequence[Config]],
    seeds: int,
    folds: int | None,
    vary: str | None,
) -> dict[str, dict[Path, Config]]:
    """The runs of every variant, by their folders."""
    paths = {name: _as_path(name) for name in recipes}
    _check_paths(paths, "--set")
    if vary is not None:
        units = [_unit_text(recipe, vary) for recipe in next(iter(recipes.values()))]
        _check_paths({unit: _as_path(unit) for unit in units}, "--vary")
    return {
        name: {
            path: run
            for recipe in of_variant
            for path, run in _runs_of(recipe, folder / paths[name], seeds, folds, vary).items()
        }
        for name, of_variant in recipes.items()
    }


def _check_paths(paths: Mapping[str, str], option: str) -> None:
    """Everything has a folder of its own, on systems that ignore case too."""
    taken: dict[str, str] = {}
    for name, path in paths.items():
        if not path.strip("."):
            raise ConfigError(f"{option} {name}: give it a name with letters or digits, NAME: ...")
        other = taken.setdefault(path.casefold(), name)
        if other != name:
            raise ConfigError(
                f"{option} {name} and {option} {other} would share the folder {path}; name one "
                "otherwise"
            )


def _runs_of(
    recipe: Config, folder: Path, seeds: int, folds: int | None, vary: str | None
) -> dict[Path, Config]:
    """Every run of a variant by its folder; seeds count from the recipe's own."""
    recipe, runs = copy.deepcopy(recipe), {}
    if vary is not None:
        unit = _unit_text(recipe, vary)
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


def train_runs(
    runs: Mapping[Path, Config], launch: Launch, vary: str | None = None
) -> dict[Path, str]:
    """Train and measure what is not measured yet; returns why runs failed, by their folder.

    Of several processes that do this with the same folders each takes runs that nobody has.

    Why a run failed stays in its folder, whatever becomes of it later.

    Raises:
        ConfigError: if a folder holds another recipe, or the runs would be measured on different
            images.
    """
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
    waiting = borrowers(runs, due)
    if waiting:
        print(f"runs that take another's weights, as they differ in the vote alone: {len(waiting)}")
    cached = any(config.data.cache == "ram" for config in due.values())
    try:
        with kept_images() if cached else nullcontext():  # from one run to the next
            failed = launched({p: c for p, c in due.items() if p not in waiting}, launch)
            if waiting:  # how many at a time pay is found out by steps, and here are none
                few = launch._replace(jobs=None if launch.jobs == "auto" else launch.jobs)
                failed |= launched({path: due[path] for path in waiting}, few, waiting)
    except KeyboardInterrupt as stop:
        stop.args = ("; the same command goes on from there",)
        raise
    return failed


def train_all(runs: Mapping[Path, Config], launch: Launch) -> None:
    """As :func:`train_runs`, where every run is needed.

    Raises:
        TrainingError: naming the causes, if any failed.
    """
    failed = train_runs(runs, launch)
    if failed:
        of_all = f"{len(failed)} of {len(runs)} trainings" if len(runs) > 1 else "the training"
        raise TrainingError(f"{of_all} failed; the same command tries again: {causes(failed)}")


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


def causes(failed: Mapping[Path, str]) -> str:
    """Why runs failed: each cause once, and where more is said of it."""
    of_cause: dict[str, list[Path]] = {}
    for path, why in failed.items():
        of_cause.setdefault(why, []).append(path)
    return "; ".join(
        f"{why} (see {paths[0] / 'log.txt'}"
        + (f"; {len(paths)} runs say so)" if len(paths) > 1 else ")")
        for why, paths in of_cause.items()
    )


def whole(runs: Mapping[Path, Config], failed: Mapping[Path, str], vary: str | None) -> list[Path]:
    """The runs of those units (seeds, or values of --vary) of which no run failed."""
    unit = {path: str(_unit(config, vary)) for path, config in runs.items()}
    without = {unit[path] for path in failed if path in runs}
    return [path for path in runs if unit[path] not in without]


def units_in(runs: Mapping[Path, Config], paths: Sequence[Path], vary: str | None) -> int:
    """How many seeds, or values of --vary, the runs at ``paths`` are of."""
    return len({str(_unit(runs[path], vary)) for path in paths})


def failures(
    runs: Mapping[str, Mapping[Path, Config]], failed: Mapping[Path, str], vary: str | None
) -> list[Failure]:
    """All runs of variants that failed, now or when they were tried before."""
    return [
        Failure(
            name,
            _unit(config, vary),
            str(path),
            (path / FAILED).read_text().strip().rpartition("\n")[2] or "not known",
            finished=path not in failed,
        )
        for name, of_variant in runs.items()
        for path, config in of_variant.items()
        if (path / FAILED).exists()
    ]


def _unit(config: Config, vary: str | None) -> Any:
    return flat(config)[vary or "train.seed"]


def _unit_text(config: Config, vary: str) -> str:
    return f"{vary}={_unit(config, vary)}"


def _as_path(name: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", name).strip("_")
