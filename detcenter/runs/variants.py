"""From finished runs to the scores of variants: groups, seeds, and folds pooled."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detcenter.analysis import SeedScores, VariantScores
from detcenter.analysis.paired import COMPARED
from detcenter.errors import ConfigError
from detcenter.evaluation import ResampledAP, coco_metrics, resampled_weights
from detcenter.recipe.config import Config, flat
from detcenter.runs.measured import MeasuredRun

logger = logging.getLogger("detcenter")

_RESAMPLES = 1000
# In what the runs of one variant may differ.
_OF_A_RUN = {
    "train.seed",
    "data.fold",
    "output",
    "data.cache",
    "data.workers",
    "evaluation.backend",
    "evaluation.iou",
    "evaluation.max_detections",  # see `_check_limits`
    "evaluation.score",
    "train.trackers",
}


def scored(
    runs: Mapping[str, Mapping[Path, MeasuredRun]], vary: str | None = None
) -> list[VariantScores]:
    """The scores of variants, whose runs are given by name and folder.

    Args:
        vary: the key of the recipe by whose values runs are paired, such as ``data.digits.seed``;
            a value's scores are the means over its seeds. None pairs them by seed.

    Raises:
        ConfigError: if two runs have a seed (and fold) in common, if folds are missing, or if the
            runs were not measured on the same images and classes, or count other numbers of
            detections.
    """
    _check_limits({path: run for of_variant in runs.values() for path, run in of_variant.items()})
    expected: dict[Any, tuple[Path, Any]] = {}
    variants = []
    for name, of_variant in runs.items():
        if vary is None:
            variants.append(VariantScores(name, _of_seeds(of_variant, expected, None)))
            continue
        units: dict[Any, dict[Path, MeasuredRun]] = {}
        for path, run in of_variant.items():
            units.setdefault(flat(run.config)[vary], {})[path] = run
        means = {
            unit: _mean_scores(list(_of_seeds(of_unit, expected, unit).values()))
            for unit, of_unit in units.items()
        }
        variants.append(VariantScores(name, means))
    _warn_of_shared_images({unit: truth for unit, (_, truth) in expected.items()}, vary)
    return variants


def _warn_of_shared_images(truths: Mapping[Any, Any], vary: str | None) -> None:
    """Units count as independent; those that were measured on some of the same images are not."""
    if len({fingerprint(truth) for truth in truths.values()}) < 2:
        return  # all the same, which the interval allows for
    images = Counter(
        image
        for _, of_unit in truths.values()
        for image in {repr(image) for image in of_unit if image[1]}  # a name alone is no identity
    )
    shared = sum(times > 1 for times in images.values())
    if shared:
        logger.warning(
            "%s: %d of %d validation images belong to several values, so that their differences "
            "are less independent than the interval takes them; it is too narrow",
            vary,
            shared,
            len(images),
        )


def _of_seeds(
    runs: Mapping[Path, MeasuredRun], expected: dict[Any, tuple[Path, Any]], unit: Any
) -> dict[int, SeedScores]:
    """By seed, if they were measured on what is ``expected`` of their unit, or the first of it."""
    seeds: dict[int, SeedScores] = {}
    for seed, folds in _by_seed(runs).items():
        path, truth = next(iter(folds)), _truth(list(folds.values()))
        other, first = expected.setdefault(unit, (path, truth))
        if truth != first:
            raise ConfigError(
                f"{path} and {other} were measured on different images, boxes or "
                "classes; only runs on the same validation data can be compared"
            )
        # Other images are drawn for units on other data; for all runs on the same data the same.
        draw = [known for _, known in expected.values()].index(truth)
        scores = _scores(list(folds.values()), draw)
        seeds[seed] = scores._replace(validation=fingerprint(truth))
    return seeds


def _mean_scores(seeds: Sequence[SeedScores]) -> SeedScores:
    """Of the seeds of one data set."""
    ap = {name: float(np.mean([s.ap[name] for s in seeds])) for name in COMPARED}
    by_class = {
        name: float(np.mean([s.by_class[name] for s in seeds])) for name in seeds[0].by_class
    }
    costs = {name: _mean([s.costs[name] for s in seeds]) for name in seeds[0].costs}
    resampled = {name: np.mean([s.resampled[name] for s in seeds], axis=0) for name in COMPARED}
    return SeedScores(ap, by_class, resampled, costs, seeds[0].validation)


def _check_limits(runs: Mapping[Path, MeasuredRun]) -> None:
    limits = {path: run.config.evaluation.max_detections for path, run in runs.items()}
    if len(set(limits.values())) > 1:
        (low, few), *_, (high, many) = sorted(limits.items(), key=lambda item: item[1])
        raise ConfigError(
            f"evaluation.max_detections is {few} in {low} and {many} in {high}; `detcenter train "
            f"--config {low / 'config.yaml'} --output {low} --resume --evaluation.max_detections "
            f"{many}` measures that run again"
        )


def by_recipe(runs: Mapping[Path, MeasuredRun]) -> dict[str, dict[Path, MeasuredRun]]:
    """Runs of the same recipe together, named by the keys in which the recipes differ."""
    groups: dict[tuple[tuple[str, str], ...], dict[Path, MeasuredRun]] = {}
    for path, run in runs.items():
        key = tuple((k, repr(v)) for k, v in _recipe(run.config).items())
        groups.setdefault(key, {})[path] = run
    recipes = [_recipe(next(iter(group.values())).config) for group in groups.values()]
    names = [_name(recipe, recipes) for recipe in recipes]
    for i, name in enumerate(names):
        if name in names[:i]:  # by rounding: values that differ beyond what is shown
            names[i] = f"{name} ({i + 1})"
    return dict(zip(names, groups.values(), strict=True))


def _recipe(config: Config) -> dict[str, Any]:
    return {key: value for key, value in flat(config).items() if key not in _OF_A_RUN}


def _name(recipe: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]]) -> str:
    """The keys whose values differ, and the first key of a section that others lack."""
    shown, sections = [], set()
    for key, value in recipe.items():
        section = key.rpartition(".")[0]
        differs = any(key in other and repr(value) != repr(other[key]) for other in recipes)
        alone = any(key not in other for other in recipes)
        if differs or (alone and section not in sections):
            shown.append(key)
            sections.add(section)
    return " ".join(f"{key}={_text(recipe[key])}" for key in shown) or "recipe"


def _text(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _by_seed(runs: Mapping[Path, MeasuredRun]) -> dict[int, dict[Path, MeasuredRun]]:
    """The runs of every seed, its folds in order."""
    seeds: dict[int, dict[int, tuple[Path, MeasuredRun]]] = {}
    for path, run in runs.items():
        of_seed = seeds.setdefault(run.config.train.seed, {})
        other, _ = of_seed.setdefault(run.config.data.fold, (path, run))
        if other != path:
            raise ConfigError(f"{path} and {other} are the same recipe with the same seed")
    for seed, of_seed in seeds.items():
        folds = next(iter(of_seed.values()))[1].config.data.folds
        missing = set(range(folds or 1)) - set(of_seed)
        if folds and missing:
            path = next(iter(of_seed.values()))[0]
            raise ConfigError(f"{path.parent}: seed {seed} lacks the folds {sorted(missing)}")
    return {seed: dict(x for _, x in sorted(of_seed.items())) for seed, of_seed in seeds.items()}


def _scores(folds: Sequence[MeasuredRun], draw: int) -> SeedScores:
    """Of one seed; what the folds detected is pooled before anything is measured.

    Args:
        draw: the seed of the resampled images.
    """
    annotations = [annotation for run in folds for annotation in run.annotations]
    detections = [found for run in folds for found in run.detections]
    classes = folds[0].classes
    chosen = folds[0].config.evaluation
    limit = chosen.max_detections
    metrics = coco_metrics(annotations, detections, classes, chosen.backend, limit)
    resampled = ResampledAP(annotations, detections, classes, limit)(
        resampled_weights(len(annotations), _RESAMPLES, draw)
    )
    costs = {
        name: _mean([getattr(run, name) for run in folds])
        for name in ("own_ratio", "term_ratio", "step_seconds", "memory_mib")
    }
    ap = {name: metrics[name] for name in COMPARED}
    return SeedScores(ap, metrics["AP_by_class"], resampled, costs)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def same_images(variants: Sequence[VariantScores]) -> bool:
    """Whether all units were measured on the same data, as where ``--vary`` is not of the data."""
    return len({x.validation for variant in variants for x in variant.seeds.values()}) == 1


def images_of(runs: Mapping[str, Mapping[Path, MeasuredRun]], vary: str | None = None) -> int:
    """How many validation images every unit was measured on, those of all folds together.

    Raises:
        ConfigError: if it is one alone, which says nothing about others.
    """
    of_variant = next(iter(runs.values()))
    of_unit: dict[Any, dict[Path, MeasuredRun]] = {}
    for path, run in of_variant.items():
        of_unit.setdefault(vary and flat(run.config)[vary], {})[path] = run
    folds, *_ = _by_seed(next(iter(of_unit.values()))).values()
    images = sum(len(run.annotations) for run in folds.values())
    if images < 2:
        raise ConfigError(f"{next(iter(folds))}: one validation image says nothing about others")
    return images


def truth_of(annotations: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Any:
    """What runs must have in common to be compared: images by name, their boxes, the classes."""
    images = [
        (
            annotation["path"].name,
            np.asarray(annotation["boxes"], np.float32).tolist(),
            np.asarray(annotation["labels"]).tolist(),
        )
        for annotation in annotations
    ]
    return list(classes), images


def fingerprint(truth: Any) -> str:
    """12 hexadecimal digits of the SHA-256 of what `truth_of` gives: equal for equal data."""
    return hashlib.sha256(json.dumps(truth).encode()).hexdigest()[:12]


def _truth(folds: Sequence[MeasuredRun]) -> Any:
    return truth_of([x for run in folds for x in run.annotations], folds[0].classes)
