"""One LMDB file of keys and values: written once, then read by any number of processes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detcenter.data.errors import DataError

if TYPE_CHECKING:
    import lmdb

_MAP_SIZE = 1 << 26  # bytes to begin with; the map grows with what is put in


def create(path: Path) -> "lmdb.Environment":
    """A new file for `put`; it is on the disk after `sync(True)`.

    Raises:
        DataError: lmdb is not installed.
    """
    return _lmdb().open(
        str(path), subdir=False, lock=False, sync=False, map_size=_MAP_SIZE, mode=0o644
    )


def put(environment: "lmdb.Environment", key: str, value: bytes) -> None:
    """Store a value, unless there is one with that key.

    Raises:
        DataError: the disk is full, say.
    """
    lmdb = _lmdb()
    while True:
        try:
            with environment.begin(write=True) as transaction:
                transaction.put(key.encode(), value, overwrite=False)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
        except lmdb.Error as error:
            raise DataError(f"{environment.path()}: cannot be written ({error})") from error


def get(path: Path, key: str) -> bytes | None:
    """The value of a key in a file, None without one.

    Raises:
        DataError: a file that is missing, damaged or no LMDB file; lmdb is not installed.
    """
    lmdb = _lmdb()
    try:
        with _environment(path).begin() as transaction:
            return transaction.get(key.encode())
    except lmdb.Error as error:
        raise damaged(path, error) from error


# By device and inode: the process that opened it, and the environment.
_opened: dict[tuple[int, int], tuple[int, "lmdb.Environment"]] = {}


def _environment(path: Path) -> "lmdb.Environment":
    """Opened once a process: LMDB forbids to open a file twice, and to go on after a fork."""
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {what}; detcenter pack writes it")
    status = path.stat()
    file = status.st_dev, status.st_ino
    process, environment = _opened.get(file, (None, None))
    if environment is None or process != os.getpid():
        if environment is not None:
            environment.close()  # the parent's, in this process only
        environment = _whole(path)
        _opened[file] = os.getpid(), environment
    return environment


def _whole(path: Path) -> "lmdb.Environment":
    lmdb = _lmdb()
    try:
        environment = lmdb.open(
            str(path), subdir=False, readonly=True, create=False, lock=False, readahead=False
        )
    except lmdb.Error as error:
        message = f"not readable as an LMDB file ({error}); detcenter pack writes one"
        raise DataError(f"{path}: {message}") from error
    pages, page = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
    if path.stat().st_size < pages * page:  # reading behind the end would kill the process
        environment.close()
        raise DataError(f"{path}: cut short; copy it or pack it again")
    return environment


def damaged(path: Path, error: Exception) -> DataError:
    """What to raise for content that cannot be what was written."""
    return DataError(f"{path}: damaged ({' '.join(str(error).split())}); pack it again")


def _lmdb() -> Any:
    try:
        import lmdb
    except ModuleNotFoundError:
        message = 'packed data sets need lmdb: pip install "detcenter[lmdb]"'
        raise DataError(message) from None
    return lmdb
