"""What a run shows while it goes, and leaves when it is finished."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from detcenter.data import DetectionDataset
from detcenter.evaluation import metrics_json, save_detections, side_by_side
from detcenter.runs.folder import write_whole

_PICTURED = 6  # validation images in the run's picture


def progress_bar(total: int, done: int, shown: bool) -> Any:
    """Over all images of the run, so that the time left is the run's."""
    return tqdm(
        total=total,
        initial=done,
        unit="img",
        dynamic_ncols=True,
        leave=False,
        # a log file gets the line of every epoch only
        disable=not (shown and sys.stderr.isatty()),
        bar_format="{desc} {percentage:3.0f}%|{bar:8}|{remaining} left {rate_fmt}{postfix}",
    )


def write_results(
    folder: Path,
    dataset: DetectionDataset,
    detections: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
) -> None:
    """The detections, as numbers and as a picture of some, and last ``results.json``.

    A run that has that file is finished.
    """
    save_detections(folder / "detections.npz", dataset.annotations, detections)
    picture = Image.fromarray(_picture(dataset, detections))
    picture.save(folder / "detections.png", compress_level=1)  # 6 takes five times as long
    write_whole(folder / "results.json", metrics_json(metrics))


def _picture(dataset: DetectionDataset, detections: Sequence[Mapping[str, Any]]) -> np.ndarray:
    shown = range(min(_PICTURED, len(dataset)))
    annotations = [dataset.annotations[i] for i in shown]
    images = [dataset.image(i) for i in shown]
    return side_by_side(images, annotations, [detections[i] for i in shown], dataset.classes)
