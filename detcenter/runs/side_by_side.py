"""Many runs, a process each, several at a time."""

import re
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from detcenter.errors import ConfigError
from detcenter.recipe.config import Config
from detcenter.runs.growth import Growth
from detcenter.runs.machine import cores, free_memory
from detcenter.runs.measured import epochs_done
from detcenter.runs.own_process import Running, started, stop

Jobs = int | Literal["auto"] | None

_LOOK = 2.0  # seconds between looks at the runs
# What Python, PyTorch and CUDA say, and the system, which kills whoever takes too much.
_OF_MEMORY = re.compile(
    r"out of (shared )?memory|can(no|')t allocate memory|MemoryError|_ALLOC_FAILED"
    r"|killed by signal:? (9|k)",
    re.IGNORECASE,
)


def jobs_of(given: str | None) -> Jobs:
    """What ``--jobs`` says.

    Raises:
        ConfigError: if it is neither a number from 1 nor auto.
    """
    if given is None:
        return None
    if given == "auto":
        return "auto"
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"--jobs {given}: a number of runs at a time, from 1, or auto")
    return int(given)


def train_side_by_side(runs: Mapping[Path, Config], jobs: Jobs) -> dict[Path, str]:
    """Train and measure every run by its folder; returns why runs failed, by their folder.

    What a run prints goes to ``log.txt`` in its folder. One that was begun goes on from its
    last checkpoint. Whatever happens to a run, the others are trained. One that ends for want of
    memory beside others goes on beside fewer; only alone it has failed.

    Args:
        jobs: runs at a time, each on a GPU of its own where there are as many; None is one a GPU,
            and one where there is none; "auto" is as many as pay, see :class:`Growth`. CPU cores
            are shared out evenly.
    """
    growth, waiting, failed = _growth(jobs, len(runs)), deque(runs), dict[Path, str]()
    running: dict[int, Running] = {}  # by their place, from 0
    shortage = _Shortage(growth)
    with _progress(runs) as progress, _stopped_in_the_end(running):
        begun, start = progress.n, time.monotonic()
        while waiting or running:
            for place in _free_places(growth.limit, running)[: len(waiting)]:
                folder = waiting.popleft()
                running[place] = started(runs[folder], folder, place, growth.sharing)
            shortage.note([run.folder for run in running.values()])
            wait([run.process.sentinel for run in running.values()], timeout=_LOOK)
            progress.update(sum(map(epochs_done, runs)) - progress.n)
            found = growth.look({r.folder: r.pace for r in running.values()}, free_memory())
            if found is not None:
                progress.write(f"--jobs auto: {found}")
            for run in _ended(running):
                why = run.failure()
                if why is not None and shortage.eases(run.folder, why):
                    waiting.appendleft(run.folder)
                    progress.write(f"{run.folder}: {why}; again, beside fewer runs")
                    continue
                if why is not None:
                    failed[run.folder] = why
                ended = f"failed: {why} (see its log.txt)" if why else "done"
                time_left = _left(progress.total - progress.n, progress.n - begun, start)
                progress.write(f"{run.folder}: {ended}{time_left}")
    return failed


class _Shortage:
    """Lowers the number of runs at a time where memory runs short, and knows for whom it did."""

    def __init__(self, growth: Growth) -> None:
        self._growth = growth
        self._most: dict[Path, int] = {}  # how many went at once, by run since it was started
        self._before: dict[Path, int] = {}  # the limit when a run first found too little

    def note(self, running: Sequence[Path]) -> None:
        """``running`` go at once."""
        at_once = len(running)
        self._most = {run: max(at_once, self._most.get(run, 0)) for run in running}

    def eases(self, run: Path, why: str) -> bool:
        """Whether ``run``, which failed, is to be tried again beside fewer runs.

        One that needs too much memory even alone says nothing about the others: they go on as
        they did before.
        """
        if not _OF_MEMORY.search(why):
            return False
        others = self._most.pop(run) - 1
        if not others:
            self._growth.limit = self._before.get(run, self._growth.limit)
            return False
        self._before.setdefault(run, self._growth.limit)
        self._growth.less(others)
        return True


def _growth(jobs: Jobs, runs: int) -> Growth:
    gpus = torch.cuda.device_count()
    if jobs == "auto":
        return Growth(gpus or 1, min(runs, max(cores(), gpus)), gpus)
    growth = Growth(jobs or gpus or 1, jobs or gpus or 1)
    growth.less(growth.limit)
    return growth


def _progress(runs: Mapping[Path, Config]) -> Any:
    """Over the epochs of all runs."""
    return tqdm(
        total=sum(config.train.epochs for config in runs.values()),
        initial=sum(map(epochs_done, runs)),
        unit="epoch",
        dynamic_ncols=True,
        leave=False,
        disable=not sys.stderr.isatty(),  # a log file gets the line of every run only
    )


@contextmanager
def _stopped_in_the_end(running: Mapping[int, Running]) -> Iterator[None]:
    try:
        yield
    finally:
        stop([run.process for run in running.values()])


def _free_places(limit: int, running: Mapping[int, Running]) -> list[int]:
    """As many of the lowest as there may be more runs."""
    places = [place for place in range(limit) if place not in running]
    return places[: max(0, limit - len(running))]


def _ended(running: dict[int, Running]) -> list[Running]:
    """Those that have ended, which leave their places."""
    return [running.pop(p) for p, run in list(running.items()) if not run.process.is_alive()]


def _left(epochs: int, done: int, start: float) -> str:
    if done <= 0 or epochs <= 0:
        return ""
    seconds = (time.monotonic() - start) / done * epochs
    return f", about {max(1, round(seconds / 60))} min left"
