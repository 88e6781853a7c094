"""Fitting on data.train, the threshold on right detections of data.val, and the metrics there."""

import numpy as np
import pytest
import torch

from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import training_set
from detcenter.runs import open_set as module
from detcenter.runs.open_set import open_set
from detcenter.unknown import WAYS

UNKNOWN = ["3", "8"]
DIMENSIONS = 12


@pytest.fixture
def config(data):
    return DataConfig(root=str(data), unknown=UNKNOWN, keep_unknown_images=True)


def seen_as(labels, classes, draw):
    """Features and logits of boxes: known classes each along an axis, unknown ones off them all."""
    axes = 4 * torch.eye(DIMENSIONS)
    labels = torch.as_tensor(labels).clamp(max=classes + 1)
    features = axes[labels - 1] + 0.2 * torch.randn(len(labels), DIMENSIONS, generator=draw)
    layer = torch.cat([torch.zeros(1, DIMENSIONS), torch.eye(DIMENSIONS)[:classes]])
    return features, features @ layer.T


@pytest.fixture
def stand_in(monkeypatch):
    """For a detector that finds every object, and calls unknown ones by the first class."""
    draw = torch.Generator().manual_seed(0)

    def passed(dataset, model, boxes, *_):
        labels = np.concatenate([a["labels"] for a in dataset.annotations])
        assert sum(map(len, boxes)) == len(labels)
        features, logits = seen_as(labels, len(dataset.classes), draw)
        return logits.numpy(), features.numpy()

    def found(dataset, model, *_, scorer):
        for annotation in dataset.with_unknown:
            labels = torch.as_tensor(annotation["labels"])
            features, logits = seen_as(labels, len(dataset.classes), draw)
            known = torch.where(labels > len(dataset.classes), 1, labels)
            yield {
                "boxes": torch.as_tensor(annotation["boxes"]),
                "scores": 0.1 + 0.9 * torch.rand(len(labels), generator=draw),
                "labels": known,
                "features": features,
                "logits": logits,
                "unknown_scores": scorer(features, logits),
            }

    monkeypatch.setattr(module, "logits_and_features", passed)
    monkeypatch.setattr(module, "detect_in", lambda *args, **kwargs: [*found(*args, **kwargs)])


def test_what_is_off_all_classes_is_marked(config, stand_in):
    classes = training_set(config).classes
    found = open_set(None, config, classes, lose=0.1)
    assert found.unknown == UNKNOWN and {*found.marked} == {*WAYS}
    assert found.unmarked["unknown_objects"] > 1 and found.unmarked["undetected"] == 0
    assert found.unmarked["A_OSE"] == found.unmarked["detections_on_unknown"]
    assert np.isnan(found.unmarked["AP_known"]) or found.unmarked["AP_known"] < 1
    for way in WAYS:
        metrics = found.marked[way]
        assert metrics["right_detections"] == found.unmarked["right_detections"]
        if way == "neighbours":  # the tenth is of another class, as classes have fewer boxes
            continue
        assert metrics["AUROC"] == 1 and metrics["FPR95"] == 0, way
        assert metrics["A_OSE"] == 0 and metrics["U_recall"] == 1


def test_the_threshold_is_that_of_right_detections(config, stand_in, monkeypatch):
    asked = []

    def noted(scores, lose):
        asked.append((scores, lose))
        return float(scores.max())

    monkeypatch.setattr(module, "threshold_losing", noted)
    found = open_set(None, config, training_set(config).classes, lose=0.25)
    for (scores, lose), way in zip(asked, WAYS, strict=True):
        assert lose == 0.25 and len(scores) == found.unmarked["right_detections"]
        assert float(found.scorers[way].threshold) == float(scores.max())
        if way != "neighbours":  # none is lost, and unknown ones are marked
            assert found.marked[way]["AP_known"] == 1


def test_what_has_a_low_score_is_passed_over(config, stand_in):
    classes = training_set(config).classes
    few, every = (open_set(None, config, classes, score=score) for score in (0.5, 0))
    counts = [found.unmarked["right_detections"] for found in (few, every)]
    assert 0 < counts[0] < counts[1]
    assert few.unmarked["undetected"] > 0 == every.unmarked["undetected"]


def test_without_a_right_detection(config, stand_in, monkeypatch):
    detect = module.detect_in

    def displaced(*args, **kwargs):
        return [x | {"boxes": x["boxes"] + 1000} for x in detect(*args, **kwargs)]

    monkeypatch.setattr(module, "detect_in", displaced)
    with pytest.raises(ConfigError, match="nothing in data.val is detected rightly"):
        open_set(None, config, training_set(config).classes)


def test_with_all_classes_taught_nothing_unknown_is_measured(data, stand_in, monkeypatch):
    config = DataConfig(root=str(data))
    classes = training_set(config).classes

    def found(dataset, *_, **__):
        return [
            {
                "boxes": torch.as_tensor(a["boxes"]),
                "scores": torch.ones(len(a["labels"])),
                "labels": torch.as_tensor(a["labels"]),
                "features": torch.eye(DIMENSIONS)[a["labels"] - 1],
                "logits": torch.zeros(len(a["labels"]), len(classes) + 1),
                "unknown_scores": torch.zeros(len(a["labels"])),
            }
            for a in dataset.annotations
        ]

    monkeypatch.setattr(module, "detect_in", found)
    measured = open_set(None, config, classes)
    assert measured.unknown == [] and measured.unmarked["unknown_objects"] == 0
    assert np.isnan(measured.marked["centers"]["AUROC"])
    assert measured.unmarked["AP_known"] == 1
