import signal

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def two_threads():
    torch.set_num_threads(2)


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal():
    """A job in the background is born deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
