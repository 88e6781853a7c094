import signal
import threading

import pytest
import torch

from detcenter.training import Stopped, stop_request


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_until_it_is_asked_for(number):
    before = signal.getsignal(number)
    with stop_request() as request:
        request.check()
        signal.raise_signal(number)
        with pytest.raises(Stopped) as stopped:
            request.check_together(torch.device("cpu"))
        assert stopped.value.signal == number
    assert signal.getsignal(number) is before


def test_the_second_one_is_obeyed_at_once():
    with stop_request():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_another_thread_cannot_listen_and_runs_all_the_same():
    seen = []

    def work():
        with stop_request() as request:
            request.check()
            seen.append(request.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
