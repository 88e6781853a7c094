"""Ending a run on request, where it can be taken up again."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch import distributed as dist

from detcenter.losses import Processes

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A run that ended because it was asked to, after saving what it needs to go on."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number
        """SIGINT (Ctrl-C) or SIGTERM"""


class StopRequest:
    """Whether this process was asked to stop. The second request is not waited for."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def check(self) -> None:
        """Raise :class:`Stopped` if it was."""
        if self.signal is not None:
            raise Stopped(self.signal)

    def check_together(self, device: torch.device) -> None:
        """Raise it in all processes if any was asked; all of them have to call this."""
        if Processes().count() > 1:
            asked = torch.tensor(self.signal or 0, device=device)
            dist.all_reduce(asked, dist.ReduceOp.MAX)
            self.signal = int(asked) or None
        self.check()


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Inside, SIGINT and SIGTERM are noted rather than obeyed.

    Outside of the main thread, where Python lets nobody listen, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()


def ignore_stops(worker: int) -> None:
    """``worker_init_fn`` of a loader: a terminal's Ctrl-C reaches its processes as well.

    They go on until the process that they load for has finished its step.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
