"""Many runs, a process each, several at a time."""

import math
import re
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from detcenter.errors import ConfigError
from detcenter.machine import cores, free_memory
from detcenter.recipe.config import Config
from detcenter.runs.claims import Claim, ClaimLost, Claims
from detcenter.runs.folder import note_failure
from detcenter.runs.growth import Growth
from detcenter.runs.lending import borrow
from detcenter.runs.measured import epochs_done, is_measured
from detcenter.runs.own_process import Running, started, stop
from detcenter.training import Stopped

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


def train_side_by_side(
    runs: Mapping[Path, Config],
    jobs: Jobs,
    lenders: Mapping[Path, Sequence[Path]] | None = None,
    patience: float = math.inf,
) -> dict[Path, str]:
    """Train and measure every run by its folder; returns why runs failed, by their folder.

    Other processes, on other machines too, may do the same with the same folders. A run is trained
    by who claims it first; this returns when all are done, or have failed, here or there.

    What a run prints goes to ``log.txt`` in its folder, and why it failed to ``failed.txt``. What
    it warns of is said here too, each kind once for all runs. A run that was begun goes on from its
    last checkpoint. Whatever happens to a run, the others are trained. One that ends for want of
    memory beside others goes on beside fewer; only alone it has failed.

    Args:
        jobs: runs at a time, each on a GPU of its own where there are as many; None is one a GPU,
            and one where there is none; "auto" is as many as pay, see :class:`Growth`. CPU cores
            are shared out evenly.
        lenders: of runs that take another's weights, see :func:`borrow`.
        patience: seconds to wait, with nothing to do here, for what others train.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the runs have saved, and may be claimed.
    """
    growth = _growth(jobs, len(runs))
    with progress_of(runs) as progress:
        here = _Here(runs, growth, lenders or {}, progress.write)
        with _stopped_in_the_end(here.running):
            begun, start = progress.n, time.monotonic()
            idle_since = start
            while here.waiting or here.running:
                here.take()
                if here.running:
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > patience:
                    break
                wait([run.process.sentinel for run in here.running.values()], timeout=_LOOK)
                progress.update(sum(map(epochs_done, runs)) - progress.n)
                found = growth.look(
                    {r.folder: r.pace for r in here.running.values()}, free_memory()
                )
                if found is not None:
                    progress.write(f"--jobs auto: {found}")
                left = _left(progress.total - progress.n, progress.n - begun, start)
                here.settle(left)
    return here.failed


class _Here:
    """The runs that are left, and those of them that are trained here."""

    def __init__(
        self,
        runs: Mapping[Path, Config],
        growth: Growth,
        lenders: Mapping[Path, Sequence[Path]],
        say: Callable[[str], None],
    ) -> None:
        self.waiting = deque(runs)
        self.running: dict[int, Running] = {}  # by their place, from 0
        self.failed: dict[Path, str] = {}
        self._runs, self._growth, self._lenders, self._say = runs, growth, lenders, say
        self._claims, self._shortage = Claims(runs), _Shortage(growth)
        self._others: dict[Path, str] = {}  # who trains runs elsewhere
        self._said = ""
        self._warned = set[str]()

    def take(self) -> None:
        """Start runs that nobody has, as many as there are places for."""
        places = _free_places(self._growth.limit, self.running)
        for folder in [*self.waiting] if places else [*self._others]:
            found = self._claims.claim(folder) if places else self._claims.look(folder)
            self._others.pop(folder, None)
            if isinstance(found, Claim):
                self._start(found, places)
            elif found is not None and found.state == "failed":
                self.waiting.remove(folder)
                self.failed[folder] = found.why or "not known"
                self._say(f"{folder}: failed: {self.failed[folder]} ({found.who})")
            elif found is not None:
                self._others[folder] = found.who
        self._shortage.note([run.folder for run in self.running.values()])
        said = "" if self.running else waits_for(self._others)
        if said and said != self._said:
            self._say(said)
        self._said = said

    def _start(self, claim: Claim, places: list[int]) -> None:
        folder = claim.folder
        self.waiting.remove(folder)
        if is_measured(folder):
            claim.done()
            self._say(f"{folder}: done by another process")
            return
        place = places.pop(0)
        try:
            if folder in self._lenders:
                borrow(folder, self._runs[folder], self._lenders[folder])
            self.running[place] = started(self._runs[folder], claim, place, self._growth.sharing)
        except BaseException:
            claim.end()
            raise

    def settle(self, left: str) -> None:
        """Say what runs warn of, and see to those that have ended; ``left`` is said of the time."""
        for place, run in [*self.running.items()]:
            goes_on = run.process.is_alive()
            self._pass_on(run)
            if goes_on:
                continue
            try:
                why = run.failure()
            except ClaimLost as lost:
                self.waiting.append(run.folder)
                self._say(str(lost))
            else:
                self._settle(run, why, left)
            run.warned.close()
            del self.running[place]

    def _pass_on(self, run: Running) -> None:
        """Say what ``run`` warns of, but nothing of a kind that another run has warned of."""
        for kind, text in run.warnings():
            if kind not in self._warned:
                self._warned.add(kind)
                self._say(f"{run.folder}: {text}")

    def _settle(self, run: Running, why: str | None, left: str) -> None:
        if why is None:
            run.claim.done()
            self._say(f"{run.folder}: done{left}")
        elif self._shortage.eases(run.folder, why):
            run.claim.end()
            self.waiting.appendleft(run.folder)
            self._say(f"{run.folder}: {why}; again, beside fewer runs")
        else:
            note_failure(run.folder, why)
            self.failed[run.folder] = why
            run.claim.end(why)
            self._say(f"{run.folder}: failed: {why} (see its log.txt){left}")


def waits_for(others: Mapping[Path, str]) -> str:
    """What to say of runs that others train, by their folder; nothing where there are none."""
    counts = Counter(others.values())
    by_whom = "; ".join(f"{count} by {who}" for who, count in counts.items())
    return by_whom and f"waiting for runs that are trained elsewhere: {by_whom}"


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


def progress_of(runs: Mapping[Path, Config]) -> Any:
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
    """Stop the runs and free their claims, also after SIGTERM."""

    def asked(number: int, frame: Any) -> None:
        raise Stopped(number)

    listens = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, asked) if listens else None
    try:
        yield
    finally:
        if listens:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM's comes after another signal
        stop([run.process for run in running.values()])
        for run in running.values():
            run.claim.end()
        if listens:
            signal.signal(signal.SIGTERM, before)


def _free_places(limit: int, running: Mapping[int, Running]) -> list[int]:
    """As many of the lowest as there may be more runs."""
    places = [place for place in range(limit) if place not in running]
    return places[: max(0, limit - len(running))]


def _left(epochs: int, done: int, start: float) -> str:
    if done <= 0 or epochs <= 0:
        return ""
    seconds = (time.monotonic() - start) / done * epochs
    return f", about {max(1, round(seconds / 60))} min left"
