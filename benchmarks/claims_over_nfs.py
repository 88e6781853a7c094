"""Processes of two machines that claim runs in a folder that both mount; see claims_over_nfs.sh.

    claims_over_nfs.py guest TTY FOLDER    in a guest: does what it is told by a serial line
    claims_over_nfs.py judge WORK          outside: tells both what to do, and counts

1. All eight processes claim the same runs, each run at the same moment: one wins.
2. A guest's processes hold runs, and the other's look at them, for five times as long as a claim
   lasts: none is taken. The holders are killed: each run is taken once, not before its claim has
   expired, and not again from who has it then.
3. The holders are stopped, and go on once their runs are taken: their next check says so. Likewise
   of a guest that is stopped as a whole, like a machine that sleeps.
4. As 2, with a guest that is killed as a whole.
"""

import contextlib
import json
import multiprocessing
import os
import selectors
import signal
import socket
import sys
import time
import tty
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from unittest import mock

from detcenter.runs.claims import Claim, ClaimLost, Claims

_WORKERS = 4  # processes a guest
_RACES = 200
_EVERY = 0.25  # seconds from a race to the next
_HELD = 3  # runs that a process holds
_EXPIRES = 6.0
_BEAT = _EXPIRES / 6  # seconds from one sign of life to the next
_LATE = 0.5  # seconds by which a sign of life, or news of a process, may be late
_PATIENCE = 180.0

_Message = dict[str, Any]


class _Worker:
    """A process of a guest."""

    def __init__(self, folder: Path, told: "Connection[Any, Any]") -> None:
        self._folder, self._told = folder, told
        self._claims: dict[str, Claim] = {}

    def run(self) -> None:
        while True:
            task = self._told.recv()
            do: Callable[..., None] = getattr(self, task.pop("do"))
            do(**task)

    def race(self, start: float) -> None:
        for number in range(_RACES):
            name = f"race {number}"
            mine = Claims([self._folder / name])
            time.sleep(max(0.0, start + number * _EVERY - time.time()))
            with _creations() as tried:
                claim = mine.claim(self._folder / name)
            if isinstance(claim, Claim):
                self._claims[name] = claim
            if tried:
                self._told.send({"tried": name, "won": isinstance(claim, Claim)})
        self._told.send({"raced": _RACES})

    def hold(self, names: list[str]) -> None:
        mine = Claims([self._folder / name for name in names], _EXPIRES)
        claims = {name: mine.claim(self._folder / name) for name in names}
        held = {name: claim for name, claim in claims.items() if isinstance(claim, Claim)}
        self._told.send({"held": len(held)})
        looked, slept = time.monotonic(), False
        while held and not self._told.poll(_BEAT / 10):
            slept = slept or time.monotonic() - looked > _EXPIRES
            looked = time.monotonic()
            for name, claim in list(held.items()):
                try:
                    claim.check()
                    if slept:
                        self._told.send({"missed": name})
                except ClaimLost:
                    self._told.send({"lost": name})
                    del held[name]

    def watch(self, names: list[str]) -> None:
        """Until told something else; takes what has expired."""
        mine, looks = Claims([self._folder / name for name in names], _EXPIRES), 0
        while not self._told.poll(_BEAT / 10):
            for name in names:
                if name in self._claims:
                    continue
                looks += 1
                claim = mine.claim(self._folder / name)
                if isinstance(claim, Claim):
                    self._claims[name] = claim
                    self._told.send({"took": name})
                if looks == len(names):
                    self._told.send({"watching": looks})
        self._told.send({"watched": looks})

    def rest(self) -> None:
        """To be told this ends what went on before."""

    def count(self, names: list[str]) -> None:
        """The names of the files in the folders."""
        files = {name: sorted(os.listdir(self._folder / name)) for name in names}
        self._told.send({"files": files})

    def finish(self) -> None:
        for claim in self._claims.values():
            claim.done()
        self._told.send({"finished": len(self._claims)})
        self._claims = {}


@contextlib.contextmanager
def _creations() -> Iterator[list[str]]:
    """Files that are created meanwhile, or would be if they were not there."""
    found: list[str] = []
    plain = os.open

    def counted(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_EXCL:
            found.append(str(path))
        return plain(path, flags, *rest)

    with mock.patch.object(os, "open", counted):
        yield found


class _Guest:
    """Passes on what processes are told and say, starts them, and sends them signals."""

    def __init__(self, terminal: str, folder: Path) -> None:
        self._folder = folder
        self._line = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._line)
        self._workers: dict[int, tuple[int, Connection[Any, Any]]] = {}

    def run(self) -> None:
        for number in range(_WORKERS):
            self._start(number)
        self._say(ready=_WORKERS)
        read = b""
        while True:
            ready = wait([self._line, *(told for _, told in self._workers.values())])
            for number, (_, told) in list(self._workers.items()):
                if told in ready:
                    self._pass_on(number, told)
            if self._line in ready:
                *lines, read = (read + os.read(self._line, 4096)).split(b"\n")
                for line in lines:
                    self._obey(**json.loads(line))

    def _start(self, number: int) -> None:
        fork = multiprocessing.get_context("fork")
        here, there = fork.Pipe()
        process = fork.Process(target=_Worker(self._folder, there).run)
        process.start()
        there.close()
        assert process.pid is not None
        self._workers[number] = process.pid, here

    def _pass_on(self, number: int, told: "Connection[Any, Any]") -> None:
        try:
            self._say(worker=number, **told.recv())
        except (EOFError, OSError):
            del self._workers[number]
            self._say(worker=number, ended=True)

    def _say(self, **what: Any) -> None:
        text = (json.dumps(what) + "\n").encode()
        while text:
            text = text[os.write(self._line, text) :]

    def _obey(self, to: int, do: str, **more: Any) -> None:
        if do == "clock":
            time.clock_settime(time.CLOCK_REALTIME, more["now"])
        elif do == "start":
            self._start(to)
        elif do == "signal":
            os.kill(self._workers[to][0], more["number"])
        else:
            self._workers[to][1].send({"do": do, **more})


class _Machine:
    """A guest, as seen from outside."""

    def __init__(self, work: Path, name: str) -> None:
        self.name, self.pid = name, int((work / f"{name}.pid").read_text())
        self.line = _connected(work / f"{name}.talk")
        self._read = b""

    def tell(self, do: str, to: int | None = None, **more: Any) -> None:
        for number in range(_WORKERS) if to is None else [to]:
            task = {"to": number, "do": do} | more
            self.line.sendall((json.dumps(task) + "\n").encode())

    def said(self) -> list[_Message]:
        now, read = time.monotonic(), self.line.recv(65536)
        if not read:
            sys.exit(f"the guest {self.name} has ended")
        *lines, self._read = (self._read + read).split(b"\n")
        return [json.loads(line) | {"guest": self.name, "at": now} for line in lines]


def _connected(path: Path) -> socket.socket:
    """To a guest that has just been started."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        line = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            line.connect(str(path))
            return line
        line.close()
        time.sleep(0.1)
    sys.exit(f"{path} does not come")


class _Judge:
    def __init__(self, work: Path) -> None:
        self.first, self.second = (_Machine(work, name) for name in ("first", "second"))
        self.well = True
        self._heard: list[_Message] = []
        self._selector = selectors.DefaultSelector()
        for one in (self.first, self.second):
            self._selector.register(one.line, selectors.EVENT_READ, one)

    def all(self) -> None:
        if len(self._hear("ready", 2)) < 2:
            sys.exit("not both guests have mounted the folder")
        self._race()
        names = self._hold("of killed")
        self._live(names)
        since = time.monotonic()
        self.first.tell("signal", number=signal.SIGKILL)
        self._taken("their holders killed", names, since)
        self._hear("ended", _WORKERS)
        self._finish(names)
        self.first.tell("start")
        self._sleep("holders", lambda number: self.first.tell("signal", number=number))
        self._sleep("guest", lambda number: os.kill(self.first.pid, number))
        names = self._hold("of dead")
        since = time.monotonic()
        self._selector.unregister(self.first.line)
        os.kill(self.first.pid, signal.SIGKILL)
        self._taken("their guest killed", names, since)
        self._finish(names)

    def _race(self) -> None:
        names, start = [f"race {number}" for number in range(_RACES)], time.time() + 5
        for one in (self.first, self.second):
            one.tell("clock", 0, now=time.time())
            one.tell("race", start=start)
        self._hear("raced", 2 * _WORKERS)
        tried = self._hear("tried")
        wins = Counter(message["tried"] for message in tried if message["won"])
        tries = Counter(message["tried"] for message in tried)
        both = {(message["tried"], message["guest"]) for message in tried}
        by = Counter(message["guest"] for message in tried if message["won"])
        twice, raced = (sum(n > 1 for n in counts.values()) for counts in (wins, tries))
        self._shall(
            wins == dict.fromkeys(names, 1),
            f"{_RACES} runs claimed by {2 * _WORKERS} processes: {len(wins)} won, {by['first']} by"
            f" one guest and {by['second']} by the other, {twice} twice; {raced} claims several"
            f" tried to create, {len(both) - len(tries)} of them in both guests",
        )
        for one in (self.first, self.second):
            one.tell("finish")
        self._hear("finished", 2 * _WORKERS)

    def _hold(self, what: str) -> list[str]:
        """The first guest's processes hold runs, and the second's look at them."""
        names = [f"{what} {number}" for number in range(_WORKERS * _HELD)]
        for number in range(_WORKERS):
            self.first.tell("hold", number, names=names[number::_WORKERS])
        held = sum(message["held"] for message in self._hear("held", _WORKERS))
        self.second.tell("watch", names=names)
        self._hear("watching", _WORKERS)
        if held < len(names):
            self._shall(False, f"{held} of {len(names)} runs could be claimed")
        return names

    def _live(self, names: list[str]) -> None:
        took = self._hear("took", 1, 5 * _EXPIRES)
        self._shall(
            not took,
            f"{len(names)} runs held for {5 * _EXPIRES:.0f} s by claims of {_EXPIRES:.0f} s, and"
            f" looked at by the other guest: {len(took)} taken",
        )

    def _taken(self, what: str, names: list[str], since: float) -> None:
        took = self._hear("took", len(names), 10 * _EXPIRES)
        took += self._hear("took", 1, 2 * _EXPIRES)
        times = Counter(message["took"] for message in took)
        after = sorted(message["at"] - since for message in took) or [0.0]
        self._shall(
            times == dict.fromkeys(names, 1) and after[0] > _EXPIRES - _BEAT - _LATE,
            f"{what}: {len(times)} of {len(names)} runs taken, {len(took) - len(times)} twice,"
            f" {after[0]:.1f} to {after[-1]:.1f} s later",
        )

    def _sleep(self, what: str, send: Callable[[int], None]) -> None:
        names = self._hold(f"of sleeping {what}")
        since = time.monotonic()
        send(signal.SIGSTOP)
        self._taken(f"their {what} stopped", names, since)
        send(signal.SIGCONT)
        lost = self._hear("lost", len(names), 10 * _EXPIRES)
        missed = self._hear("missed")
        self._shall(
            sorted(message["lost"] for message in lost) == sorted(names) and not missed,
            f"  and going on: {len(lost)} found it lost, {len(missed)} checks before that did not",
        )
        self._finish(names)

    def _finish(self, names: list[str]) -> None:
        self.second.tell("rest")  # a run that is done would be free for who still looks at it
        looks = sum(message["watched"] for message in self._hear("watched", _WORKERS))
        self.second.tell("count", 0, names=names)
        files = self._hear("files", 1)[0]["files"].values()
        left = Counter(" ".join(found) for found in files)
        start = time.monotonic()
        self.second.tell("finish")
        self._hear("finished", _WORKERS)
        said = ", ".join(f"{count} with {what}" for what, count in left.items())
        self._shall(
            left == {"claim.1 claim.2": len(names)},
            f"  {looks} looks; folders: {said}; removed in {time.monotonic() - start:.1f} s",
        )

    def _hear(self, what: str, count: int = 0, seconds: float = _PATIENCE) -> list[_Message]:
        """So many messages with the key ``what``, or those that came in time."""
        until = time.monotonic() + seconds
        while sum(what in message for message in self._heard) < count:
            for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
                self._heard += key.data.said()
            if time.monotonic() > until:
                break
        found = [message for message in self._heard if what in message]
        self._heard = [message for message in self._heard if what not in message]
        return found

    def _shall(self, holds: bool, said: str) -> None:
        self.well = self.well and holds
        print(f"  {'' if holds else 'NOT AS IT HAS TO BE: '}{said}", flush=True)


def main() -> None:
    role, *rest = sys.argv[1:]
    if role == "guest":
        _Guest(rest[0], Path(rest[1])).run()
    judge = _Judge(Path(rest[0]))
    judge.all()
    sys.exit(0 if judge.well else 1)


if __name__ == "__main__":
    main()
