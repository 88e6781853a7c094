"""A small data set, its recipe and a run of it, for all tests of the commands."""

import pytest
import yaml

from detcenter.cli import main
from detcenter.data import make_digits

from .killing import MODEL


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


def fails(capsys, *args):
    """The one line that a wrong command line prints."""
    assert main([str(arg) for arg in args]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("detcenter")]
    assert len(lines) == 1 and "Traceback" not in captured.err
    return lines[0]
