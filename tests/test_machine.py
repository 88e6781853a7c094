"""Where torch would only emulate bfloat16, a training on a CPU does without it."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState

from detcenter.machine import computes_bf16
from detcenter.options.device import on_device
from detcenter.runs import preparation


@pytest.mark.parametrize("emulated", [True, False])
def test_emulated_bf16_of_a_gpu_does_not_count(emulated, monkeypatch):
    def supported(including_emulation=True):
        return including_emulation or not emulated

    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    assert computes_bf16(torch.device("cuda")) is not emulated


def test_the_cpu_says_what_its_convolutions_use():
    assert (
        hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")
        == torch.backends.mkldnn.is_available()
    )
    layer, image = torch.nn.Conv2d(8, 8, 3), torch.rand(1, 8, 16, 16)
    with torch.autocast("cpu", torch.bfloat16), torch.profiler.profile() as profile:
        layer(image)
    names = {event.key for event in profile.key_averages()}
    assert computes_bf16(torch.device("cpu")) == ("aten::mkldnn_convolution" in names)


def test_a_torch_that_does_not_say_it_does_not(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert not computes_bf16(torch.device("cpu")) and computes_bf16(torch.device("mps"))


@pytest.mark.parametrize(("precision", "fast"), [("bf16", False), ("bf16", True), ("no", False)])
def test_a_cpu_that_would_emulate_bf16_computes_in_float32(
    precision, fast, monkeypatch, tmp_path, caplog
):
    monkeypatch.setattr(preparation, "computes_bf16", lambda device: fast)
    AcceleratorState._reset_state(reset_partial_state=True)  # it keeps what it chose first
    try:
        with on_device("cpu"):
            accelerator = preparation.accelerator_for(precision, tmp_path)
        assert accelerator.mixed_precision == (precision if fast else "no")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    said = [record.getMessage() for record in caplog.records]
    if (precision, fast) == ("bf16", False):
        (line,) = said
        assert line.startswith("train.mixed_precision: torch would only emulate bf16 on this CPU")
    else:
        assert not said


def test_a_gpu_that_emulates_bf16_keeps_it(caplog):
    state = SimpleNamespace(device=torch.device("cuda"), is_main_process=True)
    assert preparation._instead_of_emulated_bf16(state) == "bf16"
    (record,) = caplog.records
    assert "on this GPU: --train.mixed_precision fp16 may be faster" in record.getMessage()
    state.is_main_process = False
    preparation._instead_of_emulated_bf16(state)
    assert len(caplog.records) == 1
