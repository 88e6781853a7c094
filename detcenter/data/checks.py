"""One look at every image of a data set, before it matters."""

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import DecodedImage, decode_image

GRAY_SIDE = 64
"""Pixels of the small picture that images are compared by."""
_SAMPLED = 64  # rows and columns that are enough to tell how bright an image is


class Look(NamedTuple):
    """What an image file is, when it was read once."""

    fault: Fault | None = None  # why it cannot be read; then nothing below is known
    width: int = 0  # pixels, upright
    height: int = 0
    turned: bool = False  # whether EXIF exchanges its sides
    digest: bytes = b""  # of the file's bytes
    brightness: float = 255.0  # that 99 % of the pixels do not exceed, 0 to 255
    highest: int | None = None  # value in a file of gray integers of more than 8 bits
    gray: np.ndarray | None = None  # if asked for: uint8 [GRAY_SIDE, GRAY_SIDE], the whole image


def look_at(
    paths: Iterable[Path],
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    threads: int | None = None,
    gray: bool = False,
) -> dict[Path, Look]:
    """Read and decode all images, each once; a header shows little of what is wrong.

    A file that has not changed is not decoded again in the same process.

    Args:
        progress: wraps what is waited for, as `tqdm` does.
        threads: None is one a core (decoders release the GIL), 16 at most for the memory's sake.
        gray: whether to keep a small picture of each, of four kilobytes.
    """
    pool = ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1))
    try:
        futures = {path: pool.submit(_look, path, gray) for path in dict.fromkeys(paths)}
        return {path: futures[path].result() for path in progress(futures)}
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest


def _look(path: Path, gray: bool) -> Look:
    try:
        state = path.stat()
    except OSError:
        return _read(path, 0, 0, gray)
    return _read(path, state.st_mtime_ns, state.st_size, gray)


@cache
def _read(path: Path, mtime_ns: int, size: int, gray: bool) -> Look:
    try:
        content = _content(path)
        image = decode_image(content, path)
    except DataError as error:
        fault: Fault = error.args[0]
        return Look(fault)
    height, width = image.pixels.shape[:2]
    return Look(
        width=width,
        height=height,
        turned=image.turned,
        digest=hashlib.blake2b(content, digest_size=16).digest(),
        brightness=_brightness(image),
        highest=image.highest,
        gray=_small(image.pixels) if gray else None,
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        decode_image(path)  # which says it in our words
        raise


def _brightness(image: DecodedImage) -> float:
    down, across = (max(1, side // _SAMPLED) for side in image.pixels.shape[:2])
    # A saturated blue is dark as gray, but it is no black.
    return float(np.percentile(image.pixels[::down, ::across].max(axis=2), 99))


def _small(pixels: np.ndarray) -> np.ndarray:
    """Without regard to its shape; averaged, so that no pixel is left out."""
    small = cv2.resize(pixels, (GRAY_SIDE, GRAY_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
