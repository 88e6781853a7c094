"""Opening annotation files, and looking into them before they are read."""

import json
import logging
import mmap
import os
import posixpath
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from detcenter.data.errors import DataError, Fault, printable
from detcenter.data.garbage import no_collections
from detcenter.data.images import MAX_PIXELS
from detcenter.data.layouts.files import Files

logger = logging.getLogger("detcenter")


def part_file(files: Files, part: str) -> Path:
    """The annotation file that a part is named after.

    Raises:
        DataError: there is none below the root.
    """
    found = files.find(posixpath.normpath(part.replace("\\", "/")))
    if found is None:
        raise DataError(Fault(files.root / part, "annotation file not found"))
    return files.root / found


def read_text(file: Path, left_out: re.Pattern[bytes] | None = None, instead: bytes = b"") -> str:
    """The content of a text file in UTF-8, with or without a byte order mark.

    Args:
        left_out: what is replaced by `instead`.
    """
    try:
        if left_out is not None:
            return left_out.sub(instead, file.read_bytes()).decode("utf-8-sig")
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(Fault(file, "annotation file not found")) from None
    except UnicodeDecodeError as error:
        raise DataError(Fault(file, f"not a text file in UTF-8 ({error.reason})")) from None
    except OSError as error:
        raise DataError(Fault(file, f"not readable ({error.strerror})")) from error


def read_json(file: Path, left_out: re.Pattern[bytes] | None = None, instead: bytes = b"") -> Any:
    """The content of a JSON file.

    Args:
        left_out: what is replaced by `instead` before; the file is JSON with and without that.
    """
    try:
        with no_collections():
            return json.loads(read_text(file, left_out, instead))
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        if left_out is not None:  # lines and columns in the message are to be the file's
            return read_json(file)
        what = f"not readable as JSON ({' '.join(str(error).split())})"
        raise DataError(Fault(file, what)) from error


def is_number(value: Any) -> bool:
    """Whether it is one that a float holds; JSON's integers have no bound."""
    return type(value) is float or (type(value) is int and -1e30 < value < 1e30)


def size_of(value: Any) -> int:
    """A width or height in pixels, 0 where it is missing or nonsense."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return int(number) if 0 < number <= MAX_PIXELS else 0


def head(file: Path, size: int = 4096) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    if not os.path.isfile(file):  # opening a pipe would wait
        return b""
    try:
        with file.open("rb") as opened:
            return opened.read(size)
    except OSError:
        return b""


def holds(file: Path, *words: bytes) -> bool:
    """Whether all words are in a file, which may be too large to read."""
    if not os.path.isfile(file):
        return False
    try:
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return all(content.find(word) >= 0 for word in words)
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def few(names: Iterable[str], each: int = 20, most: int = 200) -> list[str]:
    """Some of the names, of every folder: enough to find out what is in there."""
    taken: Counter[str] = Counter()
    chosen: list[str] = []
    for name in names:
        folder = posixpath.dirname(name)
        if taken[folder] < each and len(chosen) < most:
            taken[folder] += 1
            chosen.append(name)
    return chosen


def below(files: Files, folder: str) -> list[str]:
    """The names below a folder, all of them for the root, "" or "."."""
    if folder in ("", "."):
        return files.names
    start = bisect_left(files.names, f"{folder}/")
    end = bisect_left(files.names, f"{folder}0")  # "0" follows "/"
    return files.names[start:end]


def folders_near(files: Files, name: str) -> list[str]:
    """Where the images of an annotation file may be: the nearest first, its own folder ahead.

    Those of `train_labels.csv` may be in a folder `train`.
    """
    own = posixpath.dirname(name)
    word = re.split(r"[-_.]", posixpath.basename(name))[0]
    inside = ("", word, f"images/{word}", f"{word}/images", "images")
    bases = dict.fromkeys([own, posixpath.dirname(own), ""])
    folders = dict.fromkeys(
        posixpath.join(base, end).rstrip("/") for base in bases for end in inside
    )
    return [own, *(folder for folder in folders if folder != own and below(files, folder))]


def report_left_out(left_out: Counter[str], file: Path, what: str) -> None:
    """A warning that counts what is left out though nothing is wrong with it."""
    if left_out:
        counts = ", ".join(f"{key}: {number}" for key, number in left_out.most_common(5))
        warn_once(f"{file}: {what} ({counts})")


@cache
def warn_once(line: str) -> None:
    """A warning that is not said again in the same process: a file is read for every part of it."""
    logger.warning("%s", printable(line))
