"""Commands on a GPU: runs that are stopped and gone on with, and what reads their checkpoints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import detcenter
from detcenter.cli import main
from detcenter.runs.run import Run
from detcenter.training import Stopped
from tests.command_line import fails

pytestmark = pytest.mark.gpu
TOOL = Path(__file__).parents[2] / "tools" / "train.py"


def trained(recipe, folder, *options):
    assert main(["train", "--config", str(recipe), "--output", str(folder), *options]) == 0
    return torch.load(folder / "last.pth", weights_only=True, map_location="cpu")["model"]


def stopped_inside_an_epoch(recipe, folder, monkeypatch, *options):
    """After the first of the second epoch's two steps."""

    def look_up(self, request):
        if (self.state.epochs_done, self.state.step) == (1, 1):
            raise Stopped(2)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_look_up", look_up)
        args = ["train", "--config", str(recipe), "--output", str(folder), *options]
        assert main(args) == 130
    saved = torch.load(folder / "last.pth", weights_only=True)
    assert (saved["epoch"], saved["step"]) == (1, 1)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_run_that_was_stopped_ends_to_the_bit_as_one_that_was_not(
    recipe, tmp_path, device, deterministic, monkeypatch, precision
):
    options = ["--train.mixed_precision", precision, "--train.ema", "0.9"]
    expected = trained(recipe, tmp_path / "whole", *options)
    stopped_inside_an_epoch(recipe, tmp_path / "stopped", monkeypatch, *options)
    found = trained(recipe, tmp_path / "stopped", *options, "--resume")
    assert found.keys() == expected.keys()
    different = [name for name, x in found.items() if not torch.equal(x, expected[name])]
    assert not different


def test_a_run_goes_on_on_a_machine_without_a_gpu(recipe, tmp_path, device, monkeypatch):
    expected = trained(recipe, tmp_path / "whole")
    folder = tmp_path / "stopped"
    stopped_inside_an_epoch(recipe, folder, monkeypatch)
    command = [sys.executable, str(TOOL), "--config", str(recipe), "--output", str(folder)]
    without = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, "--resume"], check=True, timeout=120, env=without)
    found = torch.load(folder / "last.pth", weights_only=True)["model"]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-3, msg=name)


def test_fp16_trains_and_keeps_its_scale(recipe, tmp_path, device):
    if device.type == "cpu":
        pytest.skip("fp16 needs a GPU")
    trained(recipe, tmp_path / "run", "--train.mixed_precision", "fp16")
    saved = torch.load(tmp_path / "run/last.pth", weights_only=True)
    assert saved["scaler"]["scale"] > 0
    assert all(x.isfinite().all() for x in saved["model"].values())


@pytest.mark.parametrize(
    "options",
    [
        ["--train.channels_last", "true", "--train.mixed_precision", "bf16"],
        ["--train.accumulate", "2", "--train.batch_size", "2", "--train.ema", "0.9"],
        ["--data.workers", "1"],
    ],
    ids=["channels last and bf16", "passes and average", "loading processes"],
)
def test_settings_of_a_run(recipe, tmp_path, device, options):
    model = trained(recipe, tmp_path / "run", *options)
    assert all(x.isfinite().all() for x in model.values())


def test_synchronised_batch_norm_trains(recipe, tmp_path, device):
    if device.type == "cpu":
        pytest.skip("torch has it for no CPU")
    trained(recipe, tmp_path / "run", "--train.sync_batch_norm", "true")


def test_evaluate_predict_and_features(run, data, tmp_path, device, capsys):
    checkpoint = str(run / "last.pth")
    results = tmp_path / "results.json"
    assert main(["evaluate", "--checkpoint", checkpoint, "--json", str(results)]) == 0
    again, first = (json.loads(f.read_text()) for f in (results, run / "results.json"))
    assert again["AP"] == pytest.approx(first["AP"], abs=1e-6)
    model = detcenter.load(run / "last.pth")
    assert next(model.parameters()).device.type == device.type
    images = sorted((data / "JPEGImages").iterdir())[:3]
    here = detcenter.predict(model, images)
    there = detcenter.predict(detcenter.load(run / "last.pth", "cpu"), images)
    for one, other in zip(here, there, strict=True):
        found, expected = (x.detection["scores"][:5].tolist() for x in (one, other))
        assert found == pytest.approx(expected, abs=1e-4)
    args = ["features", "--checkpoint", checkpoint, "--output", str(tmp_path / "features")]
    assert main(args) == 0
    assert any((tmp_path / "features").iterdir())


def test_a_full_device_is_one_line(recipe, tmp_path, device, capsys, monkeypatch):
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1e-4)
    else:
        monkeypatch.setattr(Run, "_step", _full)
    try:
        line = fails(capsys, "train", "--config", recipe, "--output", tmp_path / "run")
    finally:
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert "the device's memory is full; lower train.batch_size" in line


def _full(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
