"""Two runs by hand on pictures of coloured squares, and a browser to look at their page with.

The features of the second are collapsed into one point.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from detcenter.evaluation import evaluate_detections, metrics_json
from detcenter.report import Comparison, ReportedData, ReportedRun, report_page

# What a name may hold, and a page may not obey.
CLASSES = ["</script><script>document.title='broken'</script>", "<b>bold</b>", "1", "background"]
FILE = "<img src=x onerror=\"document.title='broken'\">.png"
RUN = 'with "quotes" & %{y} <i>'
COLOURS = [(220, 20, 20), (20, 200, 20), (20, 20, 220), (200, 200, 20)]


@pytest.fixture(scope="session")
def annotations():
    """Six images of 200 x 100, each with a square of every class."""
    boxes = np.array([[10 + 48 * k, 30, 46 + 48 * k, 66] for k in range(4)], np.float32)
    no = np.zeros(4, bool)
    return [
        {
            "image_id": i,
            "path": Path(FILE if i == 0 else f"{i}.png"),
            "width": 200,
            "height": 100,
            "boxes": boxes,
            "labels": np.arange(1, 5),
            "iscrowd": no,
            "difficult": no,
            "area": np.full(4, 1296.0),
        }
        for i in range(6)
    ]


def picture(number):
    pixels = np.full((100, 200, 3), 90, np.uint8)
    for k, colour in enumerate(COLOURS):
        pixels[30:66, 10 + 48 * k : 46 + 48 * k] = colour
    return pixels


@pytest.fixture(scope="session")
def detections(annotations):
    """All that is there, but in image 0: 1 taken for 2, 2 missed, nothing found at a corner."""
    found = [
        {"boxes": a["boxes"], "scores": np.full(4, 0.9), "labels": a["labels"]} for a in annotations
    ]
    boxes = np.concatenate([annotations[0]["boxes"][[0, 2, 3]], [[150.0, 70, 190, 99]]])
    found[0] = {
        "boxes": boxes,
        "scores": np.array([0.8, 0.9, 0.9, 0.7]),
        "labels": np.array([2, 3, 4, 1]),
    }
    return found


@pytest.fixture(scope="session")
def runs(annotations, detections):
    features = np.random.default_rng(0).normal(size=(24, 5))
    features[np.arange(24), np.tile(np.arange(4), 6)] += 4

    def run(name, found, history, features, centers):
        metrics = evaluate_detections(annotations, found, CLASSES)
        return ReportedRun(
            name,
            {"train.seed": len(name), "center": None},
            "train:\n  seed: <0>\n",
            history,
            json.loads(metrics_json(metrics)),
            found,
            features,
            centers,
            "5 dimensions",
        )

    perfect = [
        {"boxes": a["boxes"], "scores": np.ones(4), "labels": a["labels"]} for a in annotations
    ]
    rows = [
        {"epoch": "1", "train/loss_a": "2.5", "AP": ""},
        {"epoch": "2", "train/loss_a": "1", "AP": "0.5"},
    ]
    return [
        run("plain", detections, rows, features, np.eye(4, 5) * 4),
        run(RUN, perfect, rows[:1], np.ones((24, 5)), None),  # collapsed,
    ]


@pytest.fixture(scope="session")
def data(annotations):
    labels = np.concatenate([a["labels"] for a in annotations])
    boxes = np.concatenate([a["boxes"] for a in annotations])
    return ReportedData(CLASSES, annotations, labels, boxes, np.repeat(np.arange(6), 4))


@pytest.fixture(scope="session")
def comparison():
    def summary(mean, std):
        values = [mean] if std is None else [mean - std, mean + std]
        return {"mean": mean, "std": std, "values": values}

    def variant(name, mean):
        known = dict.fromkeys(
            ("AP", "AP50", "AP75", "own_ratio", "step_seconds"), summary(mean, 0.01)
        )
        unknown = {"term_ratio": None, "memory_mib": None}
        by_class = {name: summary(mean, None) for name in CLASSES}
        return (
            {"name": name, "seeds": [0, 1], "failed": []}
            | known
            | unknown
            | {"AP_by_class": by_class}
        )

    values = {
        "baseline": "<plain>",
        "units": "seeds",
        "images": 6,
        "failures": [],
        "variants": [variant("<plain>", 0.5), variant("center", 0.625)],
        "pairs": [
            {
                "first": "<plain>",
                "second": "center",
                "sentence": "center against <plain>: helps",
            }
        ],
    }
    return Comparison("compare", values)


@pytest.fixture(scope="session")
def html(runs, data, comparison):
    return report_page(runs, data, picture, [comparison])


@pytest.fixture(scope="session")
def chromium():
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        pytest.skip("there is no Chromium here to look at the page with")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
