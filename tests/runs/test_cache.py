"""Runs whose images stay in memory against runs that decode them every time."""

import csv

import numpy as np
import pytest

from detcenter.cli import main
from detcenter.data import kept
from detcenter.data.dataset import DetectionDataset
from detcenter.training import load_checkpoint

pytest.importorskip("fcntl")


@pytest.fixture
def decoded(monkeypatch):
    seen, read = [], DetectionDataset.image

    def image(self, index):
        seen.append(index)
        return read(self, index)

    monkeypatch.setattr(DetectionDataset, "image", image)
    return seen


def train(recipe, folder, *args):
    return main(["train", "--config", str(recipe), "--output", str(folder), *args])


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    costs = ("seconds", "step_seconds", "memory_mib")
    return [{k: v for k, v in row.items() if k not in costs} for row in found]


def test_a_run_learns_the_same_and_decodes_once(recipe, run, tmp_path, place, decoded, caplog):
    assert train(recipe, tmp_path / "run", "--data.cache", "ram") == 0
    assert rows(tmp_path / "run") == rows(run)
    ours, theirs = (load_checkpoint(f / "last.pth")["model"] for f in (tmp_path / "run", run))
    assert all(np.array_equal(value, theirs[key]) for key, value in ours.items())
    assert len(decoded) == 8 + 4 + 4  # in two epochs and two evaluations, and for the picture
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["lock"]
    assert "data.cache" not in caplog.text


def test_what_does_not_fit_is_said_in_a_line(recipe, tmp_path, place, monkeypatch, capsys):
    size = 160 * 160 * 3
    monkeypatch.setattr(kept, "room_in", lambda folder: 5 * size)
    assert train(recipe, tmp_path / "run", "--data.cache", "ram", "--train.epochs", "1") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "data.cache" in line]
    assert len(said) == 1 and "5 of 12 are kept, the others decoded every time" in said[0]


def test_a_run_may_go_on_with_it(recipe, tmp_path, place, decoded):
    assert train(recipe, tmp_path / "run", "--train.save_every_steps", "1") == 0
    decoded.clear()
    assert train(recipe, tmp_path / "run", "--resume", "--data.cache", "ram") == 0
