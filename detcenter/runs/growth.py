"""How many runs at a time pay: what `compare --jobs auto` finds out while they train."""

from collections.abc import Hashable, Mapping
from typing import NamedTuple

_STEPS = 20  # of every run, in which a number of runs is measured
_WORTH = 0.25  # of what the first trained alone: the least that one more has to add
_KEPT = 0.2  # of the free memory, for what runs take later


class Pace(NamedTuple):
    """What a run has done since it was warm, and what it takes; 0 for what it has not said yet."""

    steps: float = 0
    images: float = 0
    seconds: float = 0
    """spent in these steps, loading included"""
    memory: float = 0
    """bytes, with its loading processes"""
    gpu_memory: float = 0
    """bytes, at its peak"""
    gpu_free: float = 0
    """bytes of its GPU that nobody has taken"""


class Growth:
    """How many runs go at a time: raised as long as that pays, lowered where memory runs short.

    On GPUs a step up is one more run on each; it pays if it adds at least a quarter of what the
    first step trained, in images a second over all runs. The one that did not pay goes on, and the
    next that ends is not followed by another. On CPUs all cores are worth a run, and memory alone
    may say less. Memory has room for one more if it fits into four fifths of what is free.

    Args:
        limit: runs at a time to begin with, one a GPU.
        most: never more than that.
        gpus: 0 on CPUs.

    Attributes:
        limit: runs at a time.
        settled: whether it stays.
    """

    def __init__(self, limit: int, most: int, gpus: int = 0) -> None:
        self.limit, self.settled = min(limit, most), False
        self._most, self._gpus = most, gpus
        self._rates: list[float] = []
        self._last: Mapping[Hashable, Pace] = {}
        self._sums = Pace()

    @property
    def sharing(self) -> int:
        """Among how many runs the cores are to be shared out."""
        return self.limit if self.settled or self._gpus else self._most

    def look(self, paces: Mapping[Hashable, Pace], free: float) -> str | None:
        """Take in how far the running runs are; says what was found, when it is found.

        Args:
            paces: of all that run.
            free: bytes of the machine's memory.
        """
        if self.settled:
            return None
        if not self._gpus:
            return self._filled(list(paces.values()), free)
        if not self._measured(paces):
            return None
        self._rates.append(self.limit * self._sums.images / self._sums.seconds)
        self._sums, self._last = Pace(), {}
        return self._decided(list(paces.values()), free)

    def less(self, limit: int) -> None:
        """No more than ``limit`` from here on, and nothing is to be found."""
        self.limit, self.settled = max(1, min(self.limit, limit)), True

    def _filled(self, paces: list[Pace], free: float) -> str | None:
        need = max((pace.memory for pace in paces), default=0)
        if not need:
            return None
        room = _fitting(free, need)
        self.limit, self.settled = min(self._most, self.limit + room), True
        memory = f"a run takes {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        if self.limit < self._most:
            return f"{_runs(self.limit)}: {memory}"
        return f"{_runs(self.limit)}: there are no more cores or runs; {memory}"

    def _measured(self, paces: Mapping[Hashable, Pace]) -> bool:
        """Whether enough steps were seen in which ``limit`` runs went at once."""
        if len(paces) < self.limit or not all(pace.steps for pace in paces.values()):
            self._last = {}
            return False
        if self._last.keys() == paces.keys():
            for name, pace in paces.items():
                changes = zip(self._sums, pace, self._last[name], strict=True)
                self._sums = Pace(*(total + now - then for total, now, then in changes))
        self._last = dict(paces)
        return self._sums.steps >= _STEPS * self.limit and self._sums.seconds > 0

    def _decided(self, paces: list[Pace], free: float) -> str | None:
        *before, rate = self._rates
        if before and rate - before[-1] < _WORTH * before[0]:
            fewer = self.limit - self._gpus
            found = f"{self.limit} train {rate:.0f} images/s, {fewer} trained {before[-1]:.0f}"
            self.limit, self.settled = fewer, True
            return f"{_runs(fewer)}: {found}"
        if self.limit + self._gpus > self._most:
            self.settled = True
            return f"{_runs(self.limit)}, {rate:.0f} images/s: there are no more cores or runs"
        of_a_gpu = _fitting(min(p.gpu_free for p in paces), max(p.gpu_memory for p in paces))
        of_the_machine = _fitting(free, max(p.memory for p in paces))
        if of_a_gpu < 1 or of_the_machine < self._gpus:
            self.settled = True
            return f"{_runs(self.limit)}, {rate:.0f} images/s: memory has no room for more"
        self.limit += self._gpus
        return None


def _fitting(free: float, need: float) -> int:
    """How many more runs that take ``need`` bytes; what takes nothing always fits."""
    return max(0, int((1 - _KEPT) * free / need)) if need else 1000


def _runs(limit: int) -> str:
    return f"{limit} run{'s' if limit > 1 else ''} at a time"
