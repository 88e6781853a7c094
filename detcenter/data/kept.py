"""Decoded images, kept in this machine's memory by all processes that read them."""

import hashlib
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

from detcenter.data.errors import DataError

_IN_MEMORY = Path("/dev/shm")  # a file system of Linux that is in memory
_LEAST = 1 << 30  # bytes of it; containers often have 64 MB, which loading processes need
_RESERVE = 1 << 28  # bytes of it that stay free: loading processes die where there are none
_CONTAINER = Path("/sys/fs/cgroup")  # what says how much memory this one has
_HEADER = np.dtype("<u4")  # height, width and the number, before the pixels


@contextmanager
def kept_images() -> Iterator[Path]:
    """A folder for images that all processes of this user share while any is inside.

    It is in memory on Linux, elsewhere a temporary one that stays in the page cache. The last that
    leaves empties it; what killed ones leave behind is removed by the next that enters alone.

    Raises:
        DataError: on Windows, which has no such locks.
    """
    if fcntl is None:
        raise DataError("data.cache: ram is not for Windows; set it to null")
    folder = _place() / f"detcenter-images-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise DataError(f"data.cache: {folder} belongs to somebody else; set it to null")
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _empty_if_alone(folder, lock)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield folder
    finally:
        _empty_if_alone(folder, lock)
        fcntl.flock(lock, fcntl.LOCK_UN)  # forked processes have it too, and may end later
        os.close(lock)


def kept(
    folder: Path, version: str, read: Callable[[], tuple[np.ndarray, int]]
) -> tuple[np.ndarray, int]:
    """What ``read`` gives, from ``folder`` if it is there, else put there.

    That is an image, uint8 [H, W, 3], and a number that goes with it.

    Processes share the memory; one that changes its array changes it for itself alone.

    Args:
        version: of the image, another one when it changes.
    """
    file = file_of(folder, version)
    try:
        with file.open("rb") as opened:
            content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    except (FileNotFoundError, ValueError):  # the latter of one that somebody has emptied
        image, number = read()
        _write(file, image, number)
        return image, number
    height, width, number = np.frombuffer(content, _HEADER, 3).tolist()
    pixels = np.frombuffer(content, np.uint8, offset=3 * _HEADER.itemsize)
    return pixels.reshape(height, width, 3), number


def file_of(folder: Path, version: str) -> Path:
    return folder / hashlib.blake2b(version.encode(), digest_size=16).hexdigest()


def room_in(folder: Path) -> int:
    """Bytes that images may take: half of what is free, the rest is for training."""
    free = min(psutil.virtual_memory().available, shutil.disk_usage(folder).free)
    with suppress(OSError, ValueError):  # no container, or one without a bound ("max")
        bound, used = (int((_CONTAINER / f"memory.{of}").read_text()) for of in ("max", "current"))
        free = min(free, max(0, bound - used))
    return free // 2


def fitting(folder: Path, images: Iterable[tuple[str, int]]) -> tuple[set[str], int, int]:
    """Which images to keep: those that are there, and others in their order while there is room.

    Args:
        images: the version of each, and its bytes.

    Returns:
        The versions to keep, the bytes of these, and the bytes of all.
    """
    room, chosen, taken, needed = room_in(folder), set[str](), 0, 0
    for version, size in dict(images).items():
        there = file_of(folder, version).exists()
        needed += size
        if there or size <= room:
            chosen.add(version)
            taken += size
            room -= 0 if there else size
    return chosen, taken, needed


def _write(file: Path, image: np.ndarray, number: int) -> None:
    """Whole or not at all; memory that is full meanwhile is no error, the image is there."""
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    if shutil.disk_usage(file.parent).free < image.nbytes + _RESERVE:
        return  # runs of other data sets have kept theirs meanwhile
    with suppress(OSError):
        try:
            with partial.open("wb") as written:
                written.write(np.array([*image.shape[:2], number], _HEADER).tobytes())
                written.write(np.ascontiguousarray(image).data)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def _place() -> Path:
    large = _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).total >= _LEAST
    return _IN_MEMORY if large and os.access(_IN_MEMORY, os.W_OK) else Path(tempfile.gettempdir())


def _empty_if_alone(folder: Path, lock: int) -> None:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for file in folder.iterdir():
            if file.name != "lock":
                file.unlink(missing_ok=True)
