"""All charts of a page, by the names that it has for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from detcenter.analysis import Projection
from detcenter.evaluation.coco import SIZES as OF_OBJECTS
from detcenter.evaluation.table import ERROR_MEANINGS
from detcenter.report import charts
from detcenter.report.runs import ReportedRun, settings_of

SIZES = {"all sizes": "AP_by_class"} | {size: f"AP_{size}_by_class" for size in OF_OBJECTS}


def charts_of(
    runs: Sequence[ReportedRun],
    classes: Sequence[str],
    compact: Sequence[Mapping[str, Any]],
    history: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Of numbers; `compact` is what `compactness` says of each run, `history` see `groups_of`."""
    results = {run.name: run.results for run in runs}
    found = [run.results["confusion"] for run in runs]
    curves = {name: of["curves_by_class"] for name, of in results.items()}
    rows = {run.name: run.history for run in runs}
    ratios = {
        run.name: {name: row["ratio"] for name, row in of["by_class"].items()}
        for run, of in zip(runs, compact, strict=True)
    }
    columns = [column for group in history.values() for column in group]
    made = {f"time-{column}": charts.over_time(rows, column) for column in columns}
    for size, key in SIZES.items():
        values = {name: of[key] for name, of in results.items()}
        made[f"classes-{size}"] = charts.by_class(values, classes, "AP")
    for k, name in enumerate([None, *classes]):
        made[f"curve-{k}"] = charts.precision_over_recall(curves, name)
    for k, of_run in enumerate(found):
        made[f"confusion-{k}"] = charts.confusion(of_run["matrix"], of_run["labels"])
    splits = {name: of["errors"] for name, of in results.items()}
    made["errors"] = charts.errors(splits, ERROR_MEANINGS, f"AP{100 * settings_of(runs)['iou']:g}")
    bins = {name: of["calibration"]["bins"] for name, of in results.items() if "calibration" in of}
    if bins:
        made["reliability"] = charts.reliability(bins)
    made["compactness"] = charts.by_class(ratios, classes, "ratio")
    return {name: figure.to_dict() for name, figure in made.items()}


def feature_charts(
    planes: Sequence[Mapping[str, Projection]],
    classes: Sequence[str],
    points: Sequence[tuple[int | None, int]],
) -> dict[str, Any]:
    """Of every run and projection; `points` are the crop and the image of each point."""
    return {
        f"features-{run}-{name}": charts.features(plane, classes, points).to_dict()
        for run, of_run in enumerate(planes)
        for name, plane in of_run.items()
    }
