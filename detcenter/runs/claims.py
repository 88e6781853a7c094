"""Who trains a run, where several processes, on one machine or on many, share its folder.

A claim is a file in the folder of the run, ``claim.1``, then ``claim.2`` and so on. The one with
the highest number counts. Whoever holds it writes something else into it every few seconds. One
that has not changed for a minute has a dead or sleeping holder, and makes way for the next number.
A file is created once and by one process only, with O_EXCL, and none is removed before the run is
done. So of many that claim at once, or take over at once, one wins, and no number comes twice.

Why this holds over NFS, from version 3 on:

- O_EXCL is one step of the server, which knows a request that is sent again (by the verifier of
  EXCLUSIVE in RFC 1813, 3.3.8, and likewise in NFS 4). ``mkdir`` and ``link`` are one step too, but
  say "exists" to their own maker if the first answer was lost.
- A file or folder is looked up anew on the server when it is opened, and what was written is there
  when the file is closed (close-to-open consistency, nfs(5), "Data and metadata coherence"). What
  is asked of a name without opening anything may be a minute old. So folders are listed here, which
  opens them, and claims are read.
- No clocks are compared. How long a claim has rested is measured by the clock of who waits.

filelock's SoftFileLease is like it. But it takes a claim at once if the process that holds it is
not found on a host of that name, which containers often share; and it is held by one process, where
here a run's own process and the one that started it have it together.
"""

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

EXPIRES = 60.0
"""seconds without news after which a holder counts as dead"""

_BEATS = 6  # while a claim lasts
_NAME = re.compile(r"claim\.(\d+)")


class ClaimLost(Exception):
    """A run is trained by another process now."""


class Other(NamedTuple):
    """What another process says of a run."""

    state: Literal["held", "free", "failed"]
    who: str
    why: str | None = None
    """it failed"""
    expires: float = EXPIRES


class Claim:
    """The right to train the run in ``folder``, for this process and those that it gives it to."""

    def __init__(self, folder: Path, number: int, expires: float) -> None:
        self.folder, self.expires = folder, expires
        self.lost = False
        """as far as was noticed when it was last renewed"""
        self._number, self._token = number, secrets.token_hex(8)
        self._path = folder / f"claim.{number}"
        self._who = f"{socket.gethostname()}, process {os.getpid()}"
        self._ended = threading.Event()
        self._renewing: threading.Thread | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ended": None, "_renewing": None}

    def keep(self) -> None:
        """Renew it from now on, in a thread, until it is ended, lost, or this process dies.

        Another process that has it from this one calls this too; either keeps it alive.
        """
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()

    def check(self) -> None:
        """Raises ClaimLost if another process has taken the run over."""
        newest = _newest(self.folder)
        if newest is None:
            raise ClaimLost(f"{self.folder}: another process has trained it")
        # Without a token it is being written, by this process or who has the claim from it.
        if newest.number != self._number or newest.token not in (None, self._token):
            raise ClaimLost(f"{self.folder}: {newest.said.who} has taken it over")

    def end(self, why: str | None = None) -> None:
        """Let others take the run: it was stopped, or, for the reason ``why``, has failed."""
        self._stop()
        with suppress(ClaimLost, OSError):
            self.check()
            self.write("free" if why is None else "failed", why)

    def done(self) -> None:
        """Nobody has to train the run any more."""
        self._stop()
        for number, path in _claims_in(self.folder).items():
            if number <= self._number:
                path.unlink(missing_ok=True)

    def write(self, state: str, why: str | None = None) -> None:
        """Say so, with another number each time, in the file that is there."""
        text = {
            "who": self._who,
            "token": self._token,
            "state": state,
            "why": why,
            "expires": self.expires,
            "beat": secrets.token_hex(4),
        }
        line = json.dumps(text).encode()
        file = os.open(self._path, os.O_WRONLY)
        try:
            os.write(file, line)  # as long as before, mostly: one that is killed leaves no half
            os.ftruncate(file, len(line))
        finally:
            os.close(file)

    def _renew(self) -> None:
        while not self._ended.wait(self.expires / _BEATS):
            try:
                self.check()
                self.write("held")
            except (ClaimLost, FileNotFoundError):
                self.lost = True
                return
            except OSError:  # the server may be back soon
                continue

    def _stop(self) -> None:
        if self._renewing is not None:
            self._ended.set()
            self._renewing.join()  # or it might still say that the run is held


class Claims:
    """The claims of runs, as this process sees them from now on."""

    def __init__(self, folders: Collection[Path], expires: float | None = None) -> None:
        self._expires = EXPIRES if expires is None else expires
        found = {folder: _newest(folder) for folder in folders}
        self._failed_before = {
            folder: newest.number
            for folder, newest in found.items()
            if newest is not None and newest.said.state == "failed"
        }
        self._rested: dict[Path, _Rest] = {}

    def look(self, folder: Path) -> Other | None:
        """What others say of a run, None if it may be claimed.

        A run that had failed before this began may be tried again.
        """
        newest = _newest(folder)
        if newest is None or newest.said.state == "free":
            return None
        if newest.said.state == "failed":
            before = self._failed_before.get(folder) == newest.number
            return None if before else newest.said
        return None if self._has_expired(folder, newest) else newest.said

    def claim(self, folder: Path) -> Claim | Other:
        """The run, for this process, or who has it."""
        newest, other = _newest(folder), self.look(folder)
        if other is not None:
            return other
        number = 1 if newest is None else newest.number + 1
        claim = Claim(folder, number, self._expires)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(folder / f"claim.{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return self.look(folder) or Other("held", "another process")
        claim.write("held")
        claim.keep()
        return claim

    def _has_expired(self, folder: Path, newest: "_Newest") -> bool:
        now, before = time.monotonic(), self._rested.get(folder)
        if before is None or before.newest != newest:
            self._rested[folder] = _Rest(newest, now, 0.0)
            return False
        # Of a long time without a look little counts: the machine may have slept, and with it a
        # holder that runs here, which is awake again now.
        seconds = before.seconds + min(now - before.looked, newest.said.expires / _BEATS)
        self._rested[folder] = _Rest(newest, now, seconds)
        return seconds > newest.said.expires


class _Newest(NamedTuple):
    """The claim that counts."""

    number: int
    said: Other
    token: str | None
    beat: str | None


class _Rest(NamedTuple):
    """A claim that has not changed for some seconds, as of when it was looked at."""

    newest: _Newest
    looked: float
    seconds: float


def _claims_in(folder: Path) -> dict[int, Path]:
    try:
        names = os.listdir(folder)  # which opens it
    except FileNotFoundError:
        return {}
    found = {name: _NAME.fullmatch(name) for name in names}
    return {int(match[1]): folder / name for name, match in found.items() if match}


def _newest(folder: Path) -> _Newest | None:
    claims = _claims_in(folder)
    if not claims:
        return None
    number = max(claims)
    try:
        said = json.loads(claims[number].read_text())
        other = Other(said["state"], said["who"], said["why"], said["expires"])
        return _Newest(number, other, said["token"], said["beat"])
    except FileNotFoundError:  # the run was done meanwhile
        return None
    except (OSError, ValueError, KeyError, TypeError):  # it is being written, or was cut short
        return _Newest(number, Other("held", "another process"), None, None)
