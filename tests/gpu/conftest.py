"""Tests of a CUDA device. `pytest -m gpu --gpu-dry-run` runs them on the CPU as far as can."""

import os

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.changed_recipe import changed

# Before the first matrix product on the device, or none is to the bit.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture
def device():
    """The GPU; in a dry run the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def recipe(recipe, tmp_path_factory):
    """With a rate at which losses do not grow: rounding would grow with them."""
    return changed(recipe, tmp_path_factory.mktemp("recipe"), train={"lr": 0.001})


@pytest.fixture(autouse=True)
def whole_float32():
    """Without TensorFloat-32, which keeps 10 bits of 23."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps the precision of its first Accelerator for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def deterministic():
    # Where there is no such algorithm torch says so, and the bits show whether it mattered.
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
