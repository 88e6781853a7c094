import signal

import pytest
import torch

from tests.data.layouts import Coco, Voc


@pytest.fixture(scope="session", autouse=True)
def two_threads():
    torch.set_num_threads(2)


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
