"""Where bfloat16 is slow, a training on a CPU does without it."""

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


def test_the_cpu_says_what_its_convolutions_use(monkeypatch):
    layer, image = torch.nn.Conv2d(8, 8, 3), torch.rand(1, 8, 16, 16)
    with torch.autocast("cpu", torch.bfloat16), torch.profiler.profile() as profile:
        layer(image)
    names = {event.key for event in profile.key_averages()}
    assert computes_bf16(torch.device("cpu")) == ("aten::mkldnn_convolution" in names)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert computes_bf16(torch.device("cpu"))  # not known
    assert computes_bf16(torch.device("mps"))


@pytest.mark.parametrize(("precision", "fast"), [("bf16", False), ("bf16", True), ("no", False)])
def test_a_cpu_computes_in_float32_where_bf16_is_slow(
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
        assert line.startswith("train.mixed_precision bf16: this CPU has no instructions for")
        assert "computes in float32" in line
    else:
        assert not said


def test_a_gpu_that_emulates_bf16_keeps_it(caplog):
    state = SimpleNamespace(device=torch.device("cuda"), is_main_process=True)
    assert preparation._where_bf16_is_slow(state) == "bf16"
    (record,) = caplog.records
    assert "this GPU has no instructions for bfloat16; --train.mixed" in record.getMessage()
    state.is_main_process = False
    preparation._where_bf16_is_slow(state)
    assert len(caplog.records) == 1
