"""Several comparisons together, from their compare.json."""

import json
import logging
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from detcenter.analysis import (
    POOLED,
    PooledPair,
    Setting,
    forest_figure,
    pool_json,
    pool_table,
    pooled_pair,
)
from detcenter.errors import ConfigError, nearest

logger = logging.getLogger("detcenter")

_WIDTH = 2 * 1.96  # standard errors in a 95 % interval

# What was read from the compare.json of a setting, by the setting's name.
_Comparisons = Mapping[str, Mapping[str, Any]]


def pooled_pairs(
    paths: Sequence[str], pair: Sequence[str] | None, same_validation: Sequence[str]
) -> list[PooledPair]:
    """The pairs of variants that are compared in all of ``paths``.

    A setting is called after its file, or after the folder of a compare.json.

    Args:
        paths: of compare.json files, or of folders that hold one.
        pair: the names of the only two variants that count, the baseline first.
        same_validation: those of ``paths`` that were measured on one and the same data, where the
            files do not say on what.

    Raises:
        ConfigError: naming the file, if one is no comparison or lacks the pair.
    """
    files = [_file(path) for path in paths]
    if len(files) < 2:
        raise ConfigError("--pool takes two comparisons or more; one alone has its table already")
    for i, file in enumerate(files):
        if file.resolve() in [other.resolve() for other in files[:i]]:
            raise ConfigError(f"--pool {paths[i]} is there twice")
    names = _names(files)
    comparisons = {name: _read(file) for name, file in zip(names, files, strict=True)}
    shared = _shared(dict(zip(names, files, strict=True)), comparisons, same_validation)
    _remark_failures(comparisons)
    return [
        pooled_pair(*two, {ap: _settings(comparisons, two, ap, shared) for ap in POOLED})
        for two in _pairs(comparisons, pair)
    ]


def write_pool(folder: Path, pairs: Sequence[PooledPair]) -> None:
    """Print the table, and write ``pool.json`` and ``pool.png`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    values = pool_json(pairs)
    (folder / "pool.json").write_text(json.dumps(values, indent=2, allow_nan=False))
    print(pool_table(pairs))
    forest_figure(pairs).savefig(folder / "pool.png")
    print(f"pool.png and pool.json in {folder}")


def _file(path: str) -> Path:
    file = _written(path)
    if not file.is_file():
        missing = "this folder holds no compare.json" if Path(path).is_dir() else "no such file"
        raise ConfigError(f"--pool {path}: {missing}")
    return file


def _written(path: str) -> Path:
    return Path(path) / "compare.json" if Path(path).is_dir() else Path(path)


def _names(files: Sequence[Path]) -> list[str]:
    """Short ones, or all paths where two would have the same."""
    short = [f.resolve().parent.name if f.stem == "compare" else f.stem for f in files]
    return short if len(set(short)) == len(short) else [str(file) for file in files]


def _read(file: Path) -> dict[str, Any]:
    """What a comparison wrote, whose variants have a number for every seed."""
    try:
        values: dict[str, Any] = json.loads(file.read_text())
        whole = all(map(_is_variant, values["variants"])) and all(map(_is_pair, values["pairs"]))
        whole = whole and isinstance(values.get("validation", {}), dict)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ConfigError(f"{file} is no compare.json of a comparison")
    for variant in values["variants"]:
        if any(None in variant[name]["values"] for name in POOLED):
            raise ConfigError(f"{file}: {variant['name']} has a seed without AP")
    return values


def _is_variant(values: Mapping[str, Any]) -> bool:
    lengths = {len(values["seeds"]), *(len(values[name]["values"]) for name in POOLED)}
    plain = all(isinstance(seed, str | int | float) for seed in values["seeds"])
    return isinstance(values["name"], str) and plain and len(lengths) == 1


def _is_pair(values: Mapping[str, Any]) -> bool:
    return {"first", "second"} <= set(values) and len(values["images"]["interval"]) == 2


def _shared(
    files: Mapping[str, Path], comparisons: _Comparisons, same_validation: Sequence[str]
) -> set[str]:
    """The settings that were measured on the same data because the person says so."""
    by_file = {file.resolve(): name for name, file in files.items()}
    shared = set()
    for path in same_validation:
        name = by_file.get(_written(path).resolve())
        if name is None:
            raise ConfigError(f"--same-validation {path} is not among the files of --pool")
        if "validation" in comparisons[name]:
            raise ConfigError(
                f"--same-validation {path}: that file says itself on which data it was measured"
            )
        shared.add(name)
    return shared


def _pairs(comparisons: _Comparisons, pair: Sequence[str] | None) -> list[tuple[str, str]]:
    """Names of variants, the baseline first."""
    variants = {name: [x["name"] for x in of["variants"]] for name, of in comparisons.items()}
    if pair is not None:
        first, second = pair
        if first == second:
            raise ConfigError(f"--pair {first} {second}: two different variants are due")
        for name, there in variants.items():
            missing = next((variant for variant in pair if variant not in there), None)
            if missing is not None:
                raise ConfigError(f"{name} has no variant {missing}; {nearest(missing, there)}")
        return [(first, second)]
    baseline = next(iter(comparisons.values())).get("baseline")
    in_all = [x for x in next(iter(variants.values())) if all(x in y for y in variants.values())]
    if len(in_all) < 2:
        each = "; ".join(f"{name} has {', '.join(there)}" for name, there in variants.items())
        raise ConfigError(f"--pool: no two variants are in all comparisons: {each}")
    return list(combinations(sorted(in_all, key=lambda x: x != baseline), 2))


def _remark_failures(comparisons: _Comparisons) -> None:
    for name, comparison in comparisons.items():
        for variant in comparison["variants"]:
            if variant.get("failed"):
                units = ", ".join(map(str, variant["failed"]))
                logger.warning("%s: %s failed with %s, left out", name, variant["name"], units)


def _settings(
    comparisons: _Comparisons, pair: tuple[str, str], ap: str, shared: set[str]
) -> dict[str, Setting]:
    return {
        name: _setting(name, of, pair, ap, "shared" if name in shared else f"of {name}")
        for name, of in comparisons.items()
    }


def _setting(
    name: str, comparison: Mapping[str, Any], pair: tuple[str, str], ap: str, unknown: str
) -> Setting:
    """Its differences by the seeds that both variants have.

    Args:
        unknown: what stands for the validation data of a file that does not say what it was.
    """
    by_name = {variant["name"]: variant for variant in comparison["variants"]}
    first, second = (
        dict(zip(variant["seeds"], variant[ap]["values"], strict=True))
        for variant in (by_name[x] for x in pair)
    )
    seeds = [seed for seed in first if seed in second]
    if len(seeds) < 2:
        raise ConfigError(f"{name}: {' and '.join(pair)} have fewer than two seeds in common")
    vary, data = comparison.get("vary"), comparison.get("validation", {})
    keys: list[Hashable] = [f"{vary}={seed}" if vary else seed for seed in seeds]
    compared, way = _compared(comparison, pair)
    shared = not vary or comparison.get("images") is not None  # the images, by all units
    return Setting(
        [second[seed] - first[seed] for seed in seeds],
        keys,
        [data.get(str(seed), unknown) for seed in seeds],
        _image_error(compared, ap) if shared else 0.0,
        _interval(compared, ap, way),
    )


def _compared(comparison: Mapping[str, Any], pair: tuple[str, str]) -> tuple[dict[str, Any], int]:
    """What it says of the two, and -1 where it has them the other way round."""
    for found in comparison["pairs"]:
        for way in (1, -1):
            if (found["first"], found["second"]) == pair[::way]:
                return found, way
    return {}, 1


def _image_error(compared: Mapping[str, Any], ap: str) -> float:
    """The standard error of the difference over resampled images, 0 if it is not known.

    Where data sets are the units, their differences are over other images already.
    """
    if "images_sd" in compared.get(ap, {}):
        return float(compared[ap]["images_sd"])
    if ap != "AP" or not compared:
        return 0.0
    low, high = compared["images"]["interval"]  # of AP
    return float(high - low) / _WIDTH


def _interval(compared: Mapping[str, Any], ap: str, way: int) -> tuple[float, float] | None:
    """Over seeds and images, where it is there."""
    if "joint" not in compared.get(ap, {}):
        return None
    low, high = sorted(way * x for x in compared[ap]["joint"])
    return low, high
