"""What a look at an image file tells, and remembering that from one run to the next.

Sound files are remembered in the user's cache folder, see `cache_folder`: a file for every folder
that holds a data set's images, at most `MOST_BYTES` in all but for the newest.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL

from detcenter.data.errors import Fault

logger = logging.getLogger("detcenter")

MOST_BYTES = 512 << 20
"""Of the files that are kept, where an image takes about 150: the least used are deleted."""
VARIABLE = "DETCENTER_CACHE"
"""In the environment: another folder to remember in, or "off"."""
# What another decoder or another version of this file found is not taken over.
_VERSION = f"1 PIL {PIL.__version__}"
_SETTLED_NS = 2_000_000_000  # as coarse as the clocks of file systems are


class Look(NamedTuple):
    """What an image file is, when it was read once."""

    fault: Fault | None = None  # why it cannot be read; then nothing below is known
    width: int = 0  # pixels, upright
    height: int = 0
    turned: bool = False  # whether EXIF exchanges its sides
    digest: bytes = b""  # of the file's bytes, 16 of them
    brightness: float = 255.0  # that 99 % of the pixels do not exceed, 0 to 255
    highest: int | None = None  # value in a file of gray integers of more than 8 bits
    gray: np.ndarray | None = None  # if asked for: uint8 [GRAY_SIDE, GRAY_SIDE], the whole image


class State(NamedTuple):
    """What is another if a file is."""

    size: int  # bytes
    mtime_ns: int
    ctime_ns: int  # which moving another file to its place changes too


States = Mapping[Path, State | None]
Known = dict[str, tuple[State, Look]]  # by absolute path


def state_of(path: Path) -> State | None:
    """None if there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return State(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def cache_folder() -> Path | None:
    """That of the variable `DETCENTER_CACHE`, or else `detcenter` in the user's; None if off."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return None if chosen == "off" else Path(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    found = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return Path(found) / "detcenter" if os.path.isabs(found) else None


def cache_file(paths: Iterable[Path]) -> Path | None:
    """Where images are remembered: one file for the folder that holds them all; None if nowhere."""
    folder = cache_folder()
    of_images = {os.path.abspath(part) for part in {os.path.dirname(path) for path in paths}}
    if folder is None or not of_images:
        return None
    try:
        whole = os.path.commonpath(of_images)
    except ValueError:  # on several drives
        whole = ""
    digest = hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=12)
    return folder / f"looks-{digest.hexdigest()}.npz"


def remembered(file: Path | None, states: States) -> dict[Path, Look]:
    """Looks of another process, without pictures, at those images that have not changed since."""
    known = _read(file) if file is not None and states else {}
    if not known or file is None:
        return {}
    with suppress(OSError):
        os.utime(file)  # which says that it is of use
    looks = {}
    for path, state in states.items():
        entry = known.get(os.path.abspath(path))
        if entry is not None and entry[0] == state:
            looks[path] = entry[1]
    return looks


def remember(file: Path | None, states: States, looks: Mapping[Path, Look], since_ns: int) -> None:
    """For other processes, what was found out of images, beside what is remembered of others.

    Not of broken ones, nor of those that changed just before ``since_ns`` (time.time_ns), when
    their states were taken: they may change again without another time.

    Where that cannot be written is one warning.
    """
    settled = since_ns - _SETTLED_NS
    new = {
        os.path.abspath(path): (state, looks[path])
        for path, state in states.items()
        if state and not looks[path].fault and max(state.mtime_ns, state.ctime_ns) < settled
    }
    if file is None or not new:
        return
    others = {path: entry for path, entry in _read(file).items() if os.path.exists(path)}
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(file, others | new)
        _make_room(file)
    except OSError as error:
        _warn(file.parent, error.strerror or str(error))


@cache
def _warn(folder: Path, reason: str) -> None:
    """Once, though each part of a data set is looked at."""
    logger.warning(
        "%s: cannot be written (%s), so that every run decodes all images before it starts; %s "
        "names another folder, or is 'off'",
        *(folder, reason, VARIABLE),
    )


@contextmanager
def alone(file: Path | None) -> Iterator[None]:
    """While no other process is here for the same file: it waits, and finds what this one found.

    Where files cannot be locked none waits.
    """
    with ExitStack() as stack:
        if file is not None:
            with suppress(OSError, ImportError):
                import fcntl  # not on Windows

                file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                opened = stack.enter_context(file.with_suffix(".lock").open("a"))
                try:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    logger.info("waiting for another process, which looks at the same images")
                    fcntl.flock(opened, fcntl.LOCK_EX)  # until it is closed, or this process ends
        yield


def _read(file: Path) -> Known:
    """Nothing where there is no such file, or anything is wrong with it."""
    try:
        with np.load(file, allow_pickle=False) as columns:
            if str(columns["version"]) != _VERSION:
                return {}
            paths = map(os.fsdecode, columns["paths"].tobytes().split(b"\0"))
            rows = zip(
                *(columns[key].tolist() for key in ("states", "sizes", "turned")),
                [digest.tobytes() for digest in columns["digests"]],
                *(columns[key].tolist() for key in ("brightness", "highest")),
                strict=True,
            )
            return {path: _entry(*row) for path, row in zip(paths, rows, strict=True)}
    except Exception:  # damaged in whatever way: the images can be looked at
        return {}


def _entry(
    state: list[int],
    size: list[int],
    turned: bool,
    digest: bytes,
    brightness: float,
    highest: int,
) -> tuple[State, Look]:
    width, height = size
    deepest = None if highest < 0 else highest
    return State(*state), Look(None, width, height, turned, digest, brightness, deepest)


def _write(file: Path, known: Known) -> None:
    """Whole or not at all, and of several processes at once one after the other."""
    looks = [look for _, look in known.values()]
    columns: dict[str, Any] = {
        "version": np.array(_VERSION),
        "paths": np.frombuffer(b"\0".join(map(os.fsencode, known)), np.uint8),
        "states": np.array([state for state, _ in known.values()], np.int64),
        "sizes": np.array([look[1:3] for look in looks], np.int32),
        "turned": np.array([look.turned for look in looks], bool),
        "digests": np.frombuffer(b"".join(look.digest for look in looks), np.uint8).reshape(-1, 16),
        "brightness": np.array([look.brightness for look in looks], np.float64),
        "highest": np.array([-1 if x.highest is None else x.highest for x in looks], np.int64),
    }
    descriptor, temporary = tempfile.mkstemp(".part", f"{file.name}.", file.parent)
    try:
        with open(descriptor, "wb") as opened:
            np.savez(opened, **columns)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def _make_room(newest: Path) -> None:
    """Delete what was not used for longest, but for what was just written."""
    left = MOST_BYTES - newest.stat().st_size
    states = [
        (file, state_of(file)) for file in newest.parent.glob("looks-*.npz*") if file != newest
    ]
    there = [(state.mtime_ns, state.size, file) for file, state in states if state is not None]
    for _, size, file in sorted(there, reverse=True):
        left -= size
        if left < 0:
            file.unlink(missing_ok=True)
