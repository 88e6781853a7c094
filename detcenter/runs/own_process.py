"""A run in a process of its own, which says how far it is."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from threadpoolctl import threadpool_limits

from detcenter.machine import cores, taken_memory
from detcenter.recipe.config import Config
from detcenter.runs.claims import Claim, ClaimLost
from detcenter.runs.folder import clear_partial, has_checkpoint
from detcenter.runs.growth import Pace
from detcenter.runs.measured import is_finished, measured_run
from detcenter.runs.run import train
from detcenter.training import Stopped

_PATIENCE = 10.0  # seconds that a run has to stop
_WARM = 3  # steps of a run that are slower than the others
_WEIGH_EVERY = 20  # steps, between looks at a run's memory
_LOST = 75  # the exit status of a run that another process has taken over
_STOPPED = {128 + signal.SIGINT: 2, 128 + signal.SIGTERM: 15, -signal.SIGTERM: 15}  # the signals
_MOST_WARNINGS = 20  # of a run, and their characters: a pipe that is full would hold the run up
_LONGEST_WARNING = 1000
_CUDA_ITSELF = 0.5e9  # bytes of a GPU, about, that every process takes beside its tensors


class Running(NamedTuple):
    process: BaseProcess
    claim: Claim
    said: Any
    """the numbers of its :class:`Pace`, in memory that it shares"""
    warned: Connection
    """where its warnings arrive"""

    @property
    def folder(self) -> Path:
        return self.claim.folder

    @property
    def pace(self) -> Pace:
        return Pace(*self.said)

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Kinds and texts of those that have arrived since this was last asked."""
        with suppress(EOFError, OSError):  # it has ended, maybe in the middle of one
            while self.warned.poll():
                yield self.warned.recv()

    def failure(self) -> str | None:
        """Why it ended too early, or None; to be asked when it has ended.

        Raises:
            ClaimLost: if another process has taken it over.
            Stopped: if a person, or the system, asked it to stop.
        """
        self.process.join()
        status = self.process.exitcode
        if status == _LOST:
            raise ClaimLost(_last_words(self.folder, status))
        if status in _STOPPED:
            raise Stopped(_STOPPED[status])
        return None if status == 0 else _last_words(self.folder, status)


def started(config: Config, claim: Claim, place: int, jobs: int) -> Running:
    """The run that ``claim`` is of, as number ``place``, from 0, of ``jobs`` on the machine."""
    context = _context()
    said = context.RawArray("d", len(Pace._fields))
    # What it starts is started as in a run alone: loading processes are forked where that is
    # usual, and again at every evaluation; each would otherwise import everything first.
    usual = multiprocessing.get_start_method()
    environment = dict(os.environ) | shares(place, jobs)
    warned, warns = context.Pipe(duplex=False)
    args = (config, claim, said, warns, usual, environment)
    process = context.Process(target=_work, args=args)
    process.start()
    warns.close()
    return Running(process, claim, said, warned)


def _context() -> Any:
    """Of processes that are forked from a server, which has imported all that a run needs.

    Not from this process, which may have used CUDA or OpenMP: what is forked then can use neither.
    The server has used nothing. A run starts at once, and shares the libraries' memory.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def stop(processes: Sequence[BaseProcess]) -> None:
    """As Ctrl-C does, which does not reach them by itself; by force if that fails."""
    for process in processes:
        if process.pid is not None and sys.platform != "win32":
            with suppress(ProcessLookupError):  # it has ended
                os.kill(process.pid, signal.SIGINT)
    patience = time.monotonic() + _PATIENCE
    for process in processes:
        process.join(max(0.0, patience - time.monotonic()))
        process.kill()
        process.join()


def shares(place: int, jobs: int) -> dict[str, str]:
    """The part of the machine that is for one of several runs."""
    gpus, mine = torch.cuda.device_count(), dict[str, str]()
    if jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        mine["OMP_NUM_THREADS"] = str(max(1, cores() // jobs))
    if jobs > 1 and gpus > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(gpu) for gpu in range(gpus)]
        mine["CUDA_VISIBLE_DEVICES"] = names[place % gpus]
    return mine


def _work(
    config: Config,
    claim: Claim,
    said: Any,
    warns: Connection,
    start_method: str,
    environment: Mapping[str, str],
) -> None:
    """In a process of its own, out of reach of a terminal's Ctrl-C: `stop` passes that on, once."""
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:  # it was read when the server loaded the libraries
        _limit_threads(int(environment["OMP_NUM_THREADS"]))
    if hasattr(os, "setpgrp"):
        os.setpgrp()
        # SLURM's, when a job's time is nearly up: it is for the parent, which stops this.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    claim.keep()
    folder = claim.folder
    multiprocessing.set_start_method(start_method, force=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logging.getLogger("detcenter").handlers = [logging.StreamHandler(), _Warnings(warns)]
    try:
        claim.check()
        clear_partial(folder)
        if not is_finished(folder):
            going_on = has_checkpoint(folder)
            on_step = _saying(said, claim)
            train(config, folder, going_on, on_step=on_step, before_write=claim.check)
            claim.check()
        measured_run(folder)
    except Stopped as stop:
        print("stopped, and saved")
        sys.exit(128 + stop.signal)
    except ClaimLost as lost:
        print(lost)
        sys.exit(_LOST)


class _Warnings(logging.Handler):
    """Sends warnings to the process that started this one, each kind once.

    What differs in numbers alone is of one kind.
    """

    def __init__(self, parent: Connection) -> None:
        super().__init__(logging.WARNING)
        self._parent = parent
        self._sent = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        kind = str(record.msg)[:_LONGEST_WARNING]
        if kind not in self._sent and len(self._sent) < _MOST_WARNINGS:
            self._sent.add(kind)
            with suppress(OSError):  # the parent is gone, and this is to end
                self._parent.send((kind, record.getMessage()[:_LONGEST_WARNING]))


def _limit_threads(count: int) -> None:
    torch.set_num_threads(count)
    threadpool_limits(count)


def _saying(said: Any, claim: Claim) -> Callable[[int, float], None]:
    """What writes the numbers of a run's :class:`Pace` to ``said``, after every step.

    It raises ClaimLost where that was noticed.
    """
    done = 0

    def say(images: int, seconds: float) -> None:
        nonlocal done
        if claim.lost:
            claim.check()
        if done % _WEIGH_EVERY == 0:
            said[3] = taken_memory()
            if torch.cuda.is_available():
                said[4] = torch.cuda.max_memory_reserved() + _CUDA_ITSELF
                said[5] = torch.cuda.mem_get_info()[0]
        done += 1
        if done > _WARM:
            said[:3] = [said[0] + 1, said[1] + images, said[2] + seconds]

    return say


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its runs; a second one would write beside them."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _last_words(folder: Path, status: int | None) -> str:
    log = folder / "log.txt"
    lines = log.read_text().splitlines() if log.exists() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if status is not None and status < 0:
        said = f"killed by signal {-status}"
    return said
