"""Runs in, one self-contained HTML page out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detcenter.analysis import compactness, comparison_rows, projections
from detcenter.analysis.compactness import proportional_subset
from detcenter.analysis.plots import colour
from detcenter.evaluation import ERRORS, most_confused, nothing_confused
from detcenter.evaluation.coco import coco_keys
from detcenter.evaluation.frequency import GROUPS
from detcenter.evaluation.table import ERROR_MEANINGS
from detcenter.report.cells import crops_of_cells
from detcenter.report.crops import COLUMNS, CropSheet, thumbnail
from detcenter.report.gallery import worst_images
from detcenter.report.history import groups_of
from detcenter.report.recipes import recipe_rows
from detcenter.report.rendering import rendered_with_charts
from detcenter.report.runs import Comparison, ReportedData, ReportedRun, settings_of

_MOST_POINTS = 1500  # boxes in the pictures of features
_MOST_CROPS = 2000
_MOST_IMAGES = 60  # in the gallery
_LONGEST_SIDE = 512  # of an image there, pixels
_SECTIONS = {
    "result": "Result",
    "training": "Training",
    "classes": "Classes",
    "curves": "Precision and recall",
    "confusion": "Confusions",
    "errors": "Errors",
    "calibration": "Calibration",
    "gallery": "Images",
    "features": "Features",
    "compactness": "Compactness",
}


def report_page(
    runs: Sequence[ReportedRun],
    data: ReportedData,
    image: Callable[[int], np.ndarray],
    comparisons: Sequence[Comparison] = (),
    progress: Callable[[list[int]], Iterable[int]] = iter,
) -> str:
    """HTML that opens without network: numbers, charts, crops and images of runs side by side.

    It stays a few megabytes large however many images there are: of images and crops it holds as
    many as can be looked at, and says of how many. It needs plotly and Jinja2.

    Args:
        runs: all measured on `data`, and with the same settings.
        image: from the number of an image to its pixels, uint8 [H, W, 3].
        progress: gets the numbers of the images that are shown, and gives them on one by one.
    """
    from detcenter.report.page_charts import SIZES, charts_of, feature_charts  # need plotly

    taken = proportional_subset(data.labels, _MOST_POINTS, seed=0)
    pictures = _pictures(runs, data, taken, image, progress)
    planes = [
        projections(run.features[taken], data.labels[taken], centers=run.centers)
        for run in runs
        if len(taken)
    ]
    compact = [compactness(run.features, data.labels, data.classes) for run in runs]
    history = groups_of([run.history for run in runs])
    charts = charts_of(runs, data.classes, compact, history)
    charts |= feature_charts(planes, data.classes, pictures.points)
    shown = {
        "charts": charts,
        "columns": COLUMNS,
        "labels": [*data.classes, "background"],
        "kinds": ERRORS,
        "runs": [run.name for run in runs],
        "files": [annotation["path"].name for annotation in data.annotations],
        "matrices": [run.results["confusion"]["matrix"] for run in runs],
        "cells": pictures.cells,
        "images": pictures.images,
        "errors": pictures.errors,
    }
    return rendered_with_charts(
        "report",
        shown,
        title=runs[0].name if len(runs) == 1 else "Runs side by side",
        classes=data.classes,
        labels=shown["labels"],
        runs=[
            _for_the_page(k, *of_run)
            for k, of_run in enumerate(zip(runs, compact, pictures.errors, strict=True))
        ],
        charts=charts,
        sizes=[size for size, key in SIZES.items() if _known(runs, key) or key == "AP_by_class"],
        history=history,
        planes=list(dict.fromkeys(name for of_run in planes for name in of_run)),
        recipe=recipe_rows(runs),
        comparisons=[(folder, *comparison_rows(values)) for folder, values in comparisons],
        counts=_counts(data, pictures),
        settings=settings_of(runs),
        keys=_keys(runs),
        sections=[
            (key, name)
            for key, name in _SECTIONS.items()
            if (key not in ("features", "compactness") or planes)
            and (key != "calibration" or "reliability" in charts)
        ],
        sheet=pictures.sheet.data_uri(),
        kinds=ERROR_MEANINGS,
        columns=COLUMNS,
    )


class _Pictures(NamedTuple):
    sheet: CropSheet
    points: list[tuple[int | None, int]]  # of every point of the features its tile and image
    cells: list[dict[str, list[Any]]]  # see `crops_of_cells`
    images: list[dict[str, Any]]  # of the gallery
    errors: list[list[list[Any]]]  # of each run in all images, see `worst_images`


def _pictures(
    runs: Sequence[ReportedRun],
    data: ReportedData,
    taken: np.ndarray,
    image: Callable[[int], np.ndarray],
    progress: Callable[[list[int]], Iterable[int]],
) -> _Pictures:
    """All that is cut out of images, of which each is read once."""
    found, settings = [run.detections for run in runs], settings_of(runs)
    score, iou = settings["score"], settings["iou"]
    sheet, numbers = CropSheet(_MOST_CROPS), data.images[taken].tolist()
    tiles = [sheet.register(*box) for box in zip(numbers, data.boxes[taken], strict=True)]
    cells = crops_of_cells(found, data.annotations, len(data.classes), score, sheet, iou)
    shown, errors = worst_images(found, data.annotations, score, _MOST_IMAGES, iou)
    for i in progress(sorted(sheet.images | shown.keys())):
        pixels = image(i)
        height, width = pixels.shape[:2]
        if i in sheet.images:
            sheet.cut(i, pixels)
        if i in shown:
            source = thumbnail(pixels, _LONGEST_SIDE)
            shown[i].update(source=source, width=width, height=height)
    points = list(zip(tiles, numbers, strict=True))
    return _Pictures(sheet, points, cells, list(shown.values()), errors)


def _known(runs: Sequence[ReportedRun], key: str) -> bool:
    """Whether some class of some run has that number."""
    return any(value is not None for run in runs for value in run.results[key].values())


def _keys(runs: Sequence[ReportedRun]) -> list[str]:
    """The numbers of the first table; those of frequency where some run has them."""
    groups = [f"AP_{group}" for group in GROUPS if any(f"AP_{group}" in r.results for r in runs)]
    of_coco = coco_keys(settings_of(runs)["max_detections"])
    return [*dict.fromkeys(of_coco), *groups, "mAP_07", "mAP_12"]


def _counts(data: ReportedData, pictures: _Pictures) -> dict[str, int]:
    return {
        "images": len(data.annotations),
        "objects": sum(len(annotation["labels"]) for annotation in data.annotations),
        "boxes": len(data.labels),
        "points": len(pictures.points),
        "kept": len(pictures.images),
    }


def _for_the_page(
    number: int, run: ReportedRun, compact: Mapping[str, Any], errors: Sequence[Sequence[Any]]
) -> dict[str, Any]:
    *classes, _ = run.results["confusion"]["labels"]
    matrix = np.array(run.results["confusion"]["matrix"])
    pairs = most_confused(matrix, classes)
    confused = [
        {"true": a, "found": b, "count": n, "cell": f"{classes.index(a)}-{classes.index(b)}"}
        for a, b, n, _ in pairs
    ]
    return {
        "name": run.name,
        "colour": colour(number),
        "yaml": run.yaml,
        "results": run.results,
        "confused": confused,
        "nothing_confused": nothing_confused(matrix),
        "likely": {kind: sum(row[3] for row in errors if row[2] == kind) for kind in ERRORS},
        "space": run.space,
        "compactness": compact,
    }
