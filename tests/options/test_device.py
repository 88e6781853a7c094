"""--device: what this process and those that it starts see of the devices."""

import os

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState

from detcenter.cli import main
from detcenter.errors import ConfigError
from detcenter.options.device import check_device, on_device
from detcenter.runs.checkpoints import _fastest
from detcenter.runs.preparation import accelerator_for
from tests.command_line import fails

VARIABLES = ("CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU", "WORLD_SIZE")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def seen(device):
    with on_device(device):
        return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def test_a_device_hides_the_others(monkeypatch):
    assert seen(None) == seen("cuda") == seen("mps") == {}
    assert seen("cuda:2") == {"CUDA_VISIBLE_DEVICES": "2"}
    assert seen("cpu") == {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert seen("cuda:1") == {"CUDA_VISIBLE_DEVICES": "7"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,7"  # as it was
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES has 2 devices"):
        seen("cuda:2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert seen("cpu")["ACCELERATE_USE_CPU"] == "true"
    with pytest.raises(ConfigError, match="torchrun gives every process a GPU"):
        seen("cuda:1")


def test_what_is_no_device_is_one_line(capsys):
    for name in ("gpu", "cuda:", "cuda:x", "CPU", ""):
        said = fails(capsys, "train", "--config", "digits", "--device", name)
        assert f"mps, not {name!r}" in said
    said = fails(capsys, "predict", "a.jpg", "--onnx", "a.onnx", "--device", "cpu")
    assert "an ONNX file runs on the CPU" in said


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"--device {name} is not there"):
        check_device(name)


def test_models_of_checkpoints_follow(monkeypatch):
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("mps")
    )
    assert _fastest() == torch.device("mps")
    with on_device("cpu"):
        assert _fastest() == torch.device("cpu")


def test_trainings_follow(monkeypatch, tmp_path):
    monkeypatch.setattr(PartialState, "default_device", torch.device("mps"))
    AcceleratorState._reset_state(reset_partial_state=True)  # it keeps what it chose first
    try:
        with on_device("cpu"):
            assert accelerator_for("no", tmp_path).device.type == "cpu"
        AcceleratorState._reset_state(reset_partial_state=True)
        assert accelerator_for("no", tmp_path).device.type == "mps"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_a_run_takes_the_option(tmp_path):
    args = [
        "train",
        "--config",
        "digits_lab",
        "--root",
        str(tmp_path / "digits"),
        "--device",
        "cpu",
    ]
    small = ["--data.digits.train=4", "--data.digits.val=2", "--epochs=1", "--batch-size=2"]
    small += ["--image-size=64", "--mixed-precision=no", "--trackers=[]"]
    assert main([*args, *small, "--output", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run/results.json").is_file()
    checkpoint = ["--checkpoint", str(tmp_path / "run/last.pth"), "--device", "cpu"]
    assert main(["evaluate", *checkpoint, "--workers=0"]) == 0
