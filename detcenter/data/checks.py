"""Whether image files can be read, found out before it matters."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import read_image


def image_faults(
    paths: Iterable[Path],
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    threads: int | None = None,
) -> list[Fault]:
    """What `read_image` raises of each image; it decodes them all, a header shows little.

    A file that has not changed is not decoded again in the same process.

    Args:
        progress: wraps what is waited for, as `tqdm` does.
        threads: None is one a core (decoders release the GIL), 16 at most for the memory's sake.
    """
    pool = ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1))
    try:
        futures = [pool.submit(_fault_of, path) for path in dict.fromkeys(paths)]
        results = [future.result() for future in progress(futures)]
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return [fault for fault in results if fault is not None]


def _fault_of(path: Path) -> Fault | None:
    try:
        state = path.stat()
    except OSError:
        return _read(path, 0, 0)
    return _read(path, state.st_mtime_ns, state.st_size)


@cache
def _read(path: Path, mtime_ns: int, size: int) -> Fault | None:
    try:
        read_image(path)
    except DataError as error:
        fault: Fault = error.args[0]
        return fault
    return None
