"""One look at every image of a data set, before it matters."""

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detcenter.data.errors import DataError, Fault
from detcenter.data.garbage import no_collections
from detcenter.data.images import DecodedImage, decode_image
from detcenter.data.looks import (
    Look,
    State,
    States,
    alone,
    cache_file,
    remember,
    remembered,
    state_of,
)

GRAY_SIDE = 64
"""Pixels of the small picture that images are compared by."""
_SAMPLED = 64  # rows and columns that are enough to tell how bright an image is
# Of this process, of broken files too, with the states that they had.
_looked: dict[Path, tuple[State, Look]] = {}


def look_at(
    paths: Iterable[Path],
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    threads: int | None = None,
    gray: bool = False,
    afresh: bool = False,
) -> dict[Path, Look]:
    """Read and decode all images, each once; a header shows little of what is wrong.

    A file that has not changed is not decoded again in the same process, nor, if it was sound, in
    another one: that is remembered, see :mod:`detcenter.data.looks`.

    Args:
        progress: wraps what is waited for, as `tqdm` does.
        threads: None is one a core (decoders release the GIL), 16 at most for the memory's sake.
        gray: whether to keep a small picture of each, of four kilobytes; no other process
            remembers these.
        afresh: whether to look at what other processes looked at too; a disk may have lost bytes
            of a file that has not changed.
    """
    now = time.time_ns()
    with no_collections():
        states = {path: state_of(path) for path in dict.fromkeys(paths)}
        looks = _in_this_process(states, gray)
        file = cache_file(states) if len(looks) < len(states) else None
        known = None if gray or afresh else file
        looks |= remembered(known, _without(states, looks))
    if left := _without(states, looks):
        with alone(known):
            looks |= remembered(known, left)  # where another process was first
            looks |= _decoded(_without(states, looks), progress, threads, gray, file, now)
    _looked.update({path: (state, looks[path]) for path, state in states.items() if state})
    return {path: looks[path] for path in states}


def _in_this_process(states: States, gray: bool) -> dict[Path, Look]:
    looks = {}
    for path, state in states.items():
        known = _looked.get(path)
        if known is not None and known[0] == state:
            look = known[1]
            if not gray or look.gray is not None or look.fault:
                looks[path] = look
    return looks


def _without(states: States, looks: Mapping[Path, Look]) -> States:
    return {path: state for path, state in states.items() if path not in looks}


def _decoded(
    states: States,
    progress: Callable[[Iterable[Any]], Iterable[Any]],
    threads: int | None,
    gray: bool,
    file: Path | None,
    now: int,
) -> dict[Path, Look]:
    """A look at each, which is remembered in ``file``; after Ctrl-C that of some of them."""
    found: dict[Path, Look] = {}
    looks = _looks(list(states), threads or min(16, os.cpu_count() or 1), gray)
    try:
        with closing(looks):
            for path in progress(states):
                found[path] = next(looks)
    finally:
        remember(file, {path: states[path] for path in found}, found, now)
    return found


def _looks(paths: Sequence[Path], threads: int, gray: bool) -> Generator[Look]:
    # A thread takes several, since handing over costs too, but few, so that all end at once.
    size = max(1, min(16, len(paths) // (4 * threads)))
    pool = ThreadPoolExecutor(threads)
    try:
        groups = [paths[start : start + size] for start in range(0, len(paths), size)]
        futures = [pool.submit(_read_all, group, gray) for group in groups]
        for future in futures:
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest


def _read_all(paths: Sequence[Path], gray: bool) -> list[Look]:
    return [_read(path, gray) for path in paths]


def _read(path: Path, gray: bool) -> Look:
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
