"""How a trained detector meets objects of classes that it was not taught, by every way to score."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from detcenter.data import DetectionDataset, TaughtDataset
from detcenter.data.dataset import learnable
from detcenter.errors import ConfigError
from detcenter.evaluation import coco_metrics, open_set_metrics, right_detections
from detcenter.progress import bar
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import part_of
from detcenter.runs.passes import detect_in, logits_and_features
from detcenter.unknown import WAYS, By, UnknownScorer, threshold_losing

_BATCH = 8  # images


class OpenSet(NamedTuple):
    """What was measured on the images of ``data.val``."""

    unknown: list[str]  # classes that were not taught
    unmarked: dict[str, Any]  # the metrics where no detection is marked as unknown
    marked: dict[By, dict[str, Any]]  # by every way to score
    scorers: dict[By, UnknownScorer]


def open_set(
    model: nn.Module,
    data: DataConfig,
    classes: list[str],
    lose: float = 0.05,
    iou: float = 0.5,
    score: float = 0.05,
    max_detections: int = 100,
) -> OpenSet:
    """Fit every scorer to the boxes of ``data.train``, and measure on the images of ``data.val``.

    The threshold of each is set on the right detections there: the share ``lose`` of them is taken
    for unknown. Of what is unknown it knows nothing. The metrics are those of `open_set_metrics`,
    and ``AP_known``, COCO's AP of the known classes without what is marked.

    Args:
        lose: see :class:`UnknownScorer`.
        iou: with its object, from which on a detection counts.
        score: detections of a lower one are passed over. The public code of open-set detection
            has 0.05.
        max_detections: of an image and class, that count for ``AP_known``.

    Raises:
        ConfigError: there are no boxes to fit to, or nothing is detected rightly.
    """
    scorers = _fitted(model, part_of(data, "train", classes), data.workers, lose)
    val = part_of(data, "val", classes)
    progress = bar("detecting", "batch")
    found = detect_in(val, model, _BATCH, data.workers, progress, scorer=scorers["softmax"])
    found = [{key: x[of["scores"] >= score] for key, x in of.items()} for of in found]
    truth = val.with_unknown if isinstance(val, TaughtDataset) else val.annotations
    right = torch.from_numpy(right_detections(truth, found, iou))
    if not right.any():
        raise ConfigError("nothing in data.val is detected rightly: train for longer")
    marked = {}
    for way, scorer in scorers.items():
        scored = _scored(found, scorer)
        of_known = torch.cat([x["unknown_scores"] for x in scored])[right]
        scorer.threshold.fill_(threshold_losing(of_known, lose))
        limit = float(scorer.threshold)
        marked[way] = _metrics(truth, val, scored, limit, iou, max_detections)
    unmarked = _metrics(truth, val, found, math.inf, iou, max_detections)
    return OpenSet([str(name) for name in data.unknown or []], unmarked, marked, scorers)


def _fitted(
    model: nn.Module, train: DetectionDataset, workers: int, lose: float
) -> dict[By, UnknownScorer]:
    chosen = [learnable(annotation, train.keep_difficult) for annotation in train.annotations]
    pairs = list(zip(train.annotations, chosen, strict=True))
    boxes = [annotation["boxes"][mine] for annotation, mine in pairs]
    labels = np.concatenate([annotation["labels"][mine] for annotation, mine in pairs])
    progress = bar("trained on", "batch")
    logits, features = logits_and_features(train, model, boxes, _BATCH, workers, progress)
    parts = torch.from_numpy(features), torch.from_numpy(logits), torch.from_numpy(labels)
    try:
        return {way: UnknownScorer.fit(*parts, by=way, lose=lose) for way in WAYS}
    except ValueError as error:
        raise ConfigError(f"data.train: {error}") from None


def _scored(
    found: Sequence[Mapping[str, torch.Tensor]], scorer: UnknownScorer
) -> list[dict[str, torch.Tensor]]:
    return [{**x, "unknown_scores": scorer(x["features"], x["logits"])} for x in found]


def _metrics(
    truth: Sequence[Mapping[str, Any]],
    val: DetectionDataset,
    found: Sequence[Mapping[str, torch.Tensor]],
    threshold: float,
    iou: float,
    max_detections: int,
) -> dict[str, Any]:
    kept = [
        {key: x[key][x["unknown_scores"] <= threshold] for key in ("boxes", "scores", "labels")}
        for x in found
    ]
    of_known = coco_metrics(val.annotations, kept, val.classes, max_detections=max_detections)
    return open_set_metrics(truth, found, val.classes, threshold, iou) | {
        "AP_known": of_known["AP"]
    }
