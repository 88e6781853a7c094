"""What all tests have: data sets, a recipe and a run of it, annotations and detections made up."""

import copy
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import fx

from detcenter.cli import main
from detcenter.data import kept, make_digits
from detcenter.models import pyramid
from detcenter.runs import own_process, side_by_side
from detcenter.runs.growth import Pace
from tests.data.layouts import Coco, Voc
from tests.runs.killing import MODEL

Case = tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]


multiprocessing.set_forkserver_preload(["detcenter.runs.own_process"])


def pytest_addoption(parser):
    parser.addoption(
        "--gpu-dry-run", action="store_true", help="run what is for a GPU on the CPU as far as can"
    )


def pytest_collection_modifyitems(config, items):
    """The longest files first, so that both cores have something to do until the end."""
    long = ("test_compare.py", "runs", "commands", "test_install.py", "export")
    items.sort(
        key=lambda item: min((i for i, x in enumerate(long) if x in item.path.parts), default=9)
    )
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            of_a_device = {"device"} & {*getattr(item, "fixturenames", ())}
            if "gpu" in item.keywords and not (of_a_device and config.option.gpu_dry_run):
                item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def two_cores():
    """Shared out where tests run side by side (pytest -n 2)."""
    torch.set_num_threads(2 // min(2, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What is known of images is the tests' own, and nothing stays of it in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETCENTER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def traced_once():
    """What maps a backbone has, and the graph that makes them, follow from its layers.

    It takes a second to find them out, and every model that is built wants to know them.
    """
    strided: dict[tuple[type, str], dict[str, tuple[int, int]]] = {}
    graphs: dict[tuple[type, str, str], fx.Graph] = {}
    probe, trace = pyramid._strided_nodes, pyramid._body

    def strided_nodes(classifier):
        key = type(classifier), repr(classifier)
        if key not in strided:
            strided[key] = probe(classifier)
        return strided[key]

    def body(classifier, return_nodes):
        key = type(classifier), repr(classifier), repr(return_nodes)
        if key not in graphs:
            made = trace(classifier, return_nodes)
            graphs[key] = copy.deepcopy(made.graph)
            return made
        return fx.GraphModule(classifier, copy.deepcopy(graphs[key]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "_strided_nodes", strided_nodes)
        patch.setattr(pyramid, "_body", body)
        yield


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws depends neither on chance nor on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal():
    """A job in the background is born deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def coco(tmp_path):
    made = Coco(tmp_path / "coco")
    made.write()
    return made


@pytest.fixture
def voc(tmp_path):
    return Voc(tmp_path / "voc")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "digits"
    make_digits(root, train=8, val=4)
    return root


@pytest.fixture(scope="session")
def recipe(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    values = {
        "model": MODEL,
        "center": {"weight": 0.1},
        "data": {"format": "voc", "root": str(data), "workers": 0, "augment": {"flip": False}},
        "train": {"epochs": 2, "batch_size": 4, "lr": 0.01, "warmup_steps": 2},
    }
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--config", str(recipe), "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def forked(monkeypatch):
    """Runs are processes that are forked from the tests', which import nothing anew."""
    return _fork_runs(monkeypatch)


@pytest.fixture(scope="module")
def forked_in_module():
    with pytest.MonkeyPatch.context() as patch:
        yield _fork_runs(patch)


def _fork_runs(patch: pytest.MonkeyPatch) -> Any:
    fork = multiprocessing.get_context("fork")

    def work(*args):
        torch.set_num_threads(1)  # OpenMP's others were not forked, and would be waited for
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))  # not pytest's
        own_process._work(*args)

    def started(config, claim, place, jobs):
        said = fork.RawArray("d", len(Pace._fields))
        warned, warns = fork.Pipe(duplex=False)
        args = (config, claim, said, warns, "fork", dict(os.environ))
        process = fork.Process(target=work, args=args)
        process.start()
        warns.close()
        return own_process.Running(process, claim, said, warned)

    patch.setattr(side_by_side, "started", started)
    patch.setattr(side_by_side, "_LOOK", 0.1)
    return fork


@pytest.fixture(scope="session")
def annotation() -> Callable[..., dict[str, Any]]:
    """Ground truth of one image; what is not given is ordinary and of class 1."""

    def build(image_id: int, boxes: Any, labels: Any = None, crowd: Any = (), difficult: Any = ()):
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        return {
            "image_id": image_id,
            "path": Path(f"{image_id}.jpg"),
            "width": 400,
            "height": 400,
            "boxes": boxes,
            "labels": np.asarray([1] * len(boxes) if labels is None else labels, np.int64),
            "iscrowd": np.isin(np.arange(len(boxes)), crowd),
            "difficult": np.isin(np.arange(len(boxes)), difficult),
            "area": sides.prod(axis=1),
        }

    return build


@pytest.fixture(scope="session")
def detection() -> Callable[..., dict[str, Any]]:
    """Detections of one image; class 1 where no labels are given."""

    def build(boxes: Any = (), scores: Any = (), labels: Any = None):
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        labels = [1] * len(boxes) if labels is None else labels
        scores = np.asarray(scores, np.float32)
        return {"boxes": boxes, "scores": scores, "labels": np.asarray(labels, np.int64)}

    return build


@pytest.fixture(scope="session")
def random_case(annotation, detection) -> Callable[..., Case]:
    """Images of up to 6 objects; per object some shifted copies, and some boxes anywhere."""

    def build(seed: int, crowd: float = 0, difficult: float = 0, tied: bool = False) -> Case:
        rng = np.random.default_rng(seed)
        classes = ["a", "b", "c"]
        annotations, detections = [], []
        for image_id in rng.permutation(100)[:12]:
            boxes, labels = _boxes(rng, rng.integers(0, 7)), rng.integers(1, 4, 6)
            labels = labels[: len(boxes)]
            flags = [np.flatnonzero(rng.random(len(boxes)) < p) for p in (crowd, difficult)]
            annotations.append(annotation(int(image_id), boxes, labels, *flags))
            copies = np.repeat(np.arange(len(boxes)), rng.integers(0, 4, len(boxes)))
            anywhere = _boxes(rng, 3)
            found = np.concatenate([_shifted(rng, boxes[copies]), anywhere])
            found_labels = np.concatenate([labels[copies], rng.integers(1, 4, len(anywhere))])
            scores = rng.integers(1, 5, len(found)) / 5 if tied else rng.random(len(found))
            detections.append(detection(found, scores, found_labels))
        return annotations, detections, classes

    return build


@pytest.fixture(scope="session")
def confused_case(random_case) -> Callable[..., Case]:
    """Random cases in which some detections have another class than their object."""

    def build(seed: int, **options: Any) -> Case:
        annotations, detections, classes = random_case(seed, **options)
        rng = np.random.default_rng(seed)
        for found in detections:
            others = rng.integers(1, 4, len(found["labels"]))
            changed = rng.random(len(others)) < 0.5
            found["labels"] = np.where(changed, others, found["labels"])
        return annotations, detections, classes

    return build


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    # Multiples of a quarter pixel are exact in float32, so no sum or difference is rounded.
    corner, side = rng.integers(0, 1000, (count, 2)), rng.integers(20, 500, (count, 2))
    return np.concatenate([corner, corner + side], axis=1) / 4


def _shifted(rng: np.random.Generator, boxes: np.ndarray) -> np.ndarray:
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = np.round((boxes + rng.normal(0, 0.1, boxes.shape) * sides) * 4) / 4
    return np.concatenate([moved[:, :2], np.maximum(moved[:, 2:], moved[:, :2] + 1)], axis=1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where images are kept in memory: a folder of the test's own in place of the machine's."""
    made = tmp_path / "memory"
    made.mkdir()
    monkeypatch.setattr(kept, "_place", lambda: made)
    return made
