"""What a page is told of runs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class ReportedRun(NamedTuple):
    """A finished run."""

    name: str
    recipe: Mapping[str, Any]  # what is worth showing, by dotted keys
    yaml: str  # the whole recipe
    history: Sequence[Mapping[str, str]]  # the rows of metrics.csv
    results: Mapping[str, Any]  # of `evaluate_detections`, None for nan
    detections: Sequence[Mapping[str, Any]]
    features: np.ndarray  # [N, D], on the unit sphere if compactness is measured there
    centers: np.ndarray | None  # [K, D], of label 1 and on
    space: str  # what the features are, in words


class ReportedData(NamedTuple):
    """The images that runs were measured on."""

    classes: Sequence[str]  # names, from label 1
    annotations: Sequence[Mapping[str, Any]]  # see `detcenter.evaluation`
    labels: np.ndarray  # [N], of the boxes that features were taken of
    boxes: np.ndarray  # [N, 4], xyxy in pixels
    images: np.ndarray  # [N], the numbers of their images


def settings_of(runs: Sequence[ReportedRun]) -> dict[str, Any]:
    """How all runs were measured; earlier versions did not write it down."""
    results = runs[0].results
    known = {"max_detections": 100, "iou": 0.5, "score": results["confusion"]["score"]}
    return known | results.get("settings", {})


class Comparison(NamedTuple):
    """What `compare` made of variants that the runs may belong to."""

    folder: str
    values: Mapping[str, Any]  # of `comparison_json`
