"""Where the numbers of a run go beside metrics.csv."""

import csv
import math
import shutil

import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detcenter.cli import main
from detcenter.runs import trackers
from detcenter.runs.folder import clear_folder
from tests.command_line import fails


class Notebook(GeneralTracker):
    """Keeps what it gets, as wandb would be made and told it."""

    name = "wandb"
    requires_logging_directory = False
    opened: "list[Notebook]" = []

    def __init__(self, project, **options):
        super().__init__()
        self.made, self.recipe, self.rows, self.finished = (project, options), {}, {}, False
        self.opened.append(self)

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.recipe = values

    def log(self, values, step=None):
        self.rows[step] = values

    def finish(self):
        self.finished = True


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["tensorboard", "wandb"])
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Notebook)
    monkeypatch.setattr(Notebook, "opened", [])
    return Notebook


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def numbers(row):
    """What a tracker should get of a row: nan is left out."""
    values = {k: float(v) for k, v in row.items() if k != "epoch" and v}
    return {k: v for k, v in values.items() if not math.isnan(v)}


def events(folder):
    """The numbers in TensorBoard's events: of every tag the steps in their order, and values."""
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    scalars = {tag: accumulator.Scalars(tag) for tag in accumulator.Tags()["scalars"]}
    return {tag: [(event.step, event.value) for event in of] for tag, of in scalars.items()}


def as_events(rows):
    """What ``events`` should be."""
    found = {}
    for row in rows:
        for name, value in numbers(row).items():
            found.setdefault(name, []).append((int(row["epoch"]), pytest.approx(value, rel=1e-5)))
    return found


@pytest.mark.slow
def test_every_tracker_gets_the_numbers_of_metrics_csv(recipe, tmp_path, notebook):
    folder = tmp_path / "seen"
    args = ["--config", str(recipe), "--output", str(folder), "--data.val", "train"]
    assert main(["train", *args, "--train.trackers", "[wandb,tensorboard]"]) == 0
    rows = rows_of(folder)
    (seen,) = notebook.opened
    assert seen.rows == {int(r["epoch"]): pytest.approx(numbers(r), rel=1e-5) for r in rows}
    assert events(folder) == as_events(rows)
    assert {"lr", "AP", "train/loss_center", "AP_by_class/7", "errors/miss"} <= rows[-1].keys()
    assert seen.made == ("detcenter", {"name": "seen", "dir": str(folder)}) and seen.finished
    assert seen.recipe["center.weight"] == 0.1 and seen.recipe["model.strides"] == "[8]"


@pytest.mark.slow
def test_there_need_not_be_any(recipe, tmp_path):
    args = ["--config", str(recipe), "--output", str(tmp_path), "--train.epochs", "1"]
    assert main(["train", *args, "--train.trackers", "[]"]) == 0
    assert len(rows_of(tmp_path)) == 1 and not (tmp_path / "tensorboard").exists()


@pytest.mark.slow
def test_a_continued_run_shows_every_epoch_once(run, recipe, tmp_path, notebook):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "previous.pth").replace(folder / "last.pth")  # as if killed while epoch 2 was saved
    assert [step for step, _ in events(folder)["AP"]] == [1, 2]
    args = ["--config", str(recipe), "--output", str(folder), "--resume"]
    assert main(["train", *args, "--train.trackers", "[tensorboard,wandb]"]) == 0
    rows = rows_of(folder)
    assert events(folder) == as_events(rows) and [row["epoch"] for row in rows] == ["1", "2"]
    assert list(notebook.opened[0].rows) == [2]


@pytest.mark.slow
def test_a_run_of_before_there_was_a_choice_goes_on(run, recipe, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    state = torch.load(folder / "previous.pth", weights_only=True)
    del state["config"]["train"]["trackers"]
    state["rows"] = [{k: v for k, v in row.items() if "/" not in k} for row in state["rows"]]
    torch.save(state, folder / "last.pth")
    assert main(["train", "--config", str(recipe), "--output", str(folder), "--resume"]) == 0
    first, second = rows_of(folder)
    assert first["AP"] and not first["errors/cls"] and second["errors/cls"]


def test_what_cannot_be_tracked_is_one_line_and_nothing_is_lost(run, recipe, capsys, monkeypatch):
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["tensorboard"])
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    args = ("train", "--config", recipe, "--output", run, "--overwrite", "--train.trackers")
    for names, message in (
        ("[tensorbord]", "unknown tracker 'tensorbord'; the nearest known is 'tensorboard'"),
        ("[tensorboard,all]", "train.trackers: unknown tracker 'all'; the nearest known is"),
        ("[tensorboard,tensorboard]", "train.trackers names 'tensorboard' twice"),
        ("[tensorboard,wandb]", "train.trackers: wandb is not installed: pip install wandb"),
        ("wandb", "train.trackers takes a list of texts, not wandb"),
    ):
        assert message in fails(capsys, *args, names)
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_a_tracker_that_does_not_start_is_one_line(recipe, tmp_path, capsys, notebook, monkeypatch):
    def start(self):
        raise RuntimeError("no key,\nlog in")

    monkeypatch.setattr(notebook, "start", start)
    args = ("train", "--config", recipe, "--output", tmp_path, "--train.trackers", "[wandb]")
    assert "train.trackers: RuntimeError: no key, log in" in fails(capsys, *args)


def test_what_trackers_leave_goes_with_the_run(tmp_path):
    for name in ("tensorboard", "wandb", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    clear_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
