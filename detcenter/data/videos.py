"""Reading and writing videos, by OpenCV."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what it would print is said in an error

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from detcenter.data.errors import DataError, Fault  # noqa: E402

# What a header says may be so many seconds too much: of mkv and webm it is a duration, which sound
# may fill; mp4 and mov may hide frames at either end; an avi counts its frames.
_SLACK = {".avi": 0.0, ".mov": 0.5, ".mp4": 0.5}
_RATE = 25.0  # frames a second, where the header does not say


def video_length(path: Path) -> int | None:
    """Frames by the header, which may be a few off; None where it does not say.

    Raises:
        DataError: it cannot be opened.
    """
    with _opened(path) as capture:
        return _length(capture)


def frame_rate(path: Path) -> float:
    """Frames a second; 25 where the header does not say.

    Raises:
        DataError: it cannot be opened.
    """
    with _opened(path) as capture:
        return _rate(capture)


def read_video(path: Path, every: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Every `every`-th frame's number, from 0, and the frame, uint8 RGB [H, W, 3], upright.

    One after another: only one is in memory.

    Raises:
        DataError: it cannot be opened, or, after its last frame, it has fewer than its header says.
    """
    with _opened(path) as capture:
        count, last = 0, 0.0
        while capture.grab():
            if count % every == 0:
                decoded, frame = capture.retrieve()
                if not decoded:
                    break
                yield count, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            count, last = count + 1, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        _check_end(path, capture, count, last)


def _check_end(path: Path, capture: cv2.VideoCapture, count: int, last: float) -> None:
    """Raise if `count` frames, the last shown from second `last` on, are not all."""
    length, rate = _length(capture), _rate(capture)
    if length is None and count:
        return
    missing = (length or 1) - count
    seconds = (length or 1) / rate - (last + 1 / rate)  # frames may come at an uneven rate
    if not count or missing > 1 and seconds > _SLACK.get(path.suffix.lower(), 1.0) + 0.5 / rate:
        what = (
            f"ends after {count} of {length or 'its'} frames; it is cut short, damaged or trimmed"
        )
        raise DataError(Fault(path, what))


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that adds a frame, uint8 RGB [H, W, 3], to an mp4 of MPEG-4 video.

    The first frame decides the size, in even numbers; others are brought to it.

    Raises:
        OSError: the file cannot be written.
    """
    writers: list[cv2.VideoWriter] = []
    size, count = (0, 0), 0

    def write(frame: np.ndarray) -> None:
        nonlocal size, count
        count += 1
        if not writers:
            size = (frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2)
            writers.append(_writer(path, rate, size))
        if frame.shape[:2] != size[::-1]:
            frame = _brought_to(frame, size)
        writers[0].write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    try:
        yield write
    finally:
        for writer in writers:
            writer.release()
    if writers and not _has(path, count):  # OpenCV says nothing of what it could not write
        raise OSError(f"{path}: the video could not be written whole; is the disk full?")


def _has(path: Path, frames: int) -> bool:
    try:
        return video_length(path) == frames
    except DataError:
        return False


def _brought_to(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut by an odd last row or column; a frame of another size is resized."""
    width, height = size
    if frame.shape[1] - width in (0, 1) and frame.shape[0] - height in (0, 1):
        return frame[:height, :width]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def _writer(path: Path, rate: float, size: tuple[int, int]) -> cv2.VideoWriter:
    # Of what OpenCV's packages encode, mp4v is the fastest by far; H.264 is in none of them.
    code = cv2.VideoWriter.fourcc(*"mp4v")
    with _quiet():
        writer = cv2.VideoWriter(str(path.absolute()), cv2.CAP_FFMPEG, code, rate, size)
    if not writer.isOpened():
        raise OSError(f"{path}: the video could not be written by this OpenCV; try --no-pictures")
    return writer


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise DataError(Fault(path, f"{error.strerror}")) from None
    with _quiet():
        # Not relative: a colon in a name would make a protocol of what is before it.
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            why = "empty" if empty else "no video that OpenCV knows, or cut short"
            raise DataError(Fault(path, f"not a readable video ({why}); replace or remove it"))
        yield capture
    finally:
        capture.release()


@contextmanager
def _quiet() -> Iterator[None]:
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def _length(capture: cv2.VideoCapture) -> int | None:
    """None too for the nonsense that OpenCV makes of a missing duration."""
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(frames) if 0 < frames < 1e9 else None


def _rate(capture: cv2.VideoCapture) -> float:
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0 < rate < 1000 else _RATE
