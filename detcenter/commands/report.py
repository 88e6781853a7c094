"""`detcenter report`: folders of finished runs in, one HTML page out."""

import dataclasses
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from detcenter.data import DetectionDataset
from detcenter.errors import ConfigError
from detcenter.options import report as options
from detcenter.progress import bar
from detcenter.recipe.config import Config, differences, flat
from detcenter.recipe.datasets import validation_set
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import parse
from detcenter.report import Comparison, ReportedData, ReportedRun, report_page
from detcenter.runs.features import features_of_run
from detcenter.runs.measured import detections_of, finished_recipe, history_of
from detcenter.runs.variants import truth_of

_NEEDED = ("curves_by_class", "confusion", "errors")  # what earlier versions did not measure
_ALWAYS = {"model.name", "center", "center.weight", "train.lr", "train.seed"}
# Folders between a run and its comparison: variant, value of --vary, and seed of a fold.
_ABOVE = 4


def main(args: Sequence[str]) -> None:
    """Write the page of one run, or of several side by side."""
    arguments = parse(options.parser(), args)
    for package in ("plotly", "jinja2"):
        need(package, "report", "a report")
    output = Path(arguments.output)
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder; name a file, {output}/report.html say")
    page = _page([Path(run) for run in arguments.runs], arguments.root)
    output.parent.mkdir(parents=True, exist_ok=True)
    # A file's name may hold what UTF-8 has no letter for.
    output.write_text(page, encoding="utf-8", errors="backslashreplace")
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, opens in any browser")


def _page(folders: Sequence[Path], root: str | None) -> str:
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("a run is named twice; once is enough")
    recipes = {folder: finished_recipe(folder) for folder in folders}
    results = {folder: _results(folder) for folder in folders}
    _check_same("evaluation.score", {f: of["confusion"]["score"] for f, of in results.items()})
    for key, otherwise in (("iou", 0.5), ("max_detections", 100)):
        found = {f: of.get("settings", {}).get(key, otherwise) for f, of in results.items()}
        _check_same(f"evaluation.{key}", found)
    _check_same("data.keep_difficult", {f: of.data.keep_difficult for f, of in recipes.items()})
    measured = {folder: detections_of(folder) for folder in folders}
    truths = {f: truth_of(seen, _classes(results[f])) for f, (seen, _) in measured.items()}
    dataset = _dataset(recipes, truths, root)
    names, shown = _names(folders), _keys(list(recipes.values()))
    features = {folder: features_of_run(folder, recipes[folder], dataset) for folder in folders}
    runs = [
        ReportedRun(
            names[folder],
            {key: value for key, value in flat(config).items() if key in shown},
            yaml.safe_dump(dataclasses.asdict(config), sort_keys=False),
            history_of(folder),
            results[folder],
            measured[folder][1],
            *(features[folder][key] for key in ("features", "centers", "space")),
        )
        for folder, config in recipes.items()
    ]
    boxes = (features[folders[0]][key] for key in ("labels", "boxes", "images"))
    data = ReportedData(dataset.classes, dataset.annotations, *boxes)
    return report_page(runs, data, dataset.image, _comparisons(folders), bar("pictures"))


def _results(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = _json(folder / "results.json")
    if not all(key in results for key in _NEEDED) or not (folder / "detections.npz").exists():
        recipe = shlex.quote(str(folder / "config.yaml"))
        raise ConfigError(
            f"{folder / 'results.json'} is of an earlier version; `detcenter train --config "
            f"{recipe} --output {shlex.quote(str(folder))} --resume` measures the run again"
        )
    return results


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no object of JSON")
    return content


def _check_same(key: str, values: dict[Path, Any]) -> None:
    if len(set(values.values())) > 1:
        found = ", ".join(f"{folder} {value}" for folder, value in values.items())
        raise ConfigError(f"the runs differ in {key} ({found}); make a report of each")


def _dataset(
    recipes: dict[Path, Config], truths: dict[Path, Any], root: str | None
) -> DetectionDataset:
    """The validation images of all runs, which have to be the same."""
    (folder, truth), *others = truths.items()
    for other, of_other in others:
        if of_other != truth:
            raise ConfigError(
                f"{other} and {folder} were measured on different images, boxes or classes; "
                "make a report of each"
            )
    data = recipes[folder].data
    if root is not None:
        if not Path(root).exists():  # digits would be made there
            raise ConfigError(f"--root {root} is not there")
        data = dataclasses.replace(data, root=root)
    classes, _ = truth
    dataset = validation_set(data, classes)
    if truth_of(dataset.annotations, classes) != truth:
        raise ConfigError(
            f"data.val {data.val!r} of {data.root!r} is not what {folder} was measured on; --root "
            "names where that is"
        )
    return dataset


def _classes(results: dict[str, Any]) -> list[str]:
    *classes, _ = results["confusion"]["labels"]
    return classes


def _keys(recipes: Sequence[Config]) -> set[str]:
    """Those that matter always, or that some recipe sets to other than the default."""
    changed = {
        key
        for recipe in recipes
        for key, _, _ in differences(recipe, Config())
        if key in flat(recipe)
    }
    return (changed | _ALWAYS) - {"output"}


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """What tells them apart of their paths."""
    paths = {folder: folder.resolve() for folder in folders}
    common = Path(os.path.commonpath([path.parent for path in paths.values()]))
    return {folder: str(path.relative_to(common)) for folder, path in paths.items()}


def _comparisons(folders: Sequence[Path]) -> list[Comparison]:
    """What `compare` wrote above the runs."""
    above = [parent for run in folders for parent in list(run.resolve().parents)[:_ABOVE]]
    found = [path for path in dict.fromkeys(above) if (path / "compare.json").is_file()]
    comparisons = [Comparison(path.name, _json(path / "compare.json")) for path in found]
    for path, comparison in zip(found, comparisons, strict=True):
        if not (comparison.values.get("variants") and "pairs" in comparison.values):
            raise ConfigError(f"{path / 'compare.json'} is not what `detcenter compare` writes")
        if "baseline" not in comparison.values:
            raise ConfigError(
                f"{path / 'compare.json'} is of an earlier version; the same `detcenter compare` "
                "writes it again, without training"
            )
    return comparisons
