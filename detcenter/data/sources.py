"""What to detect in: images and videos, by themselves or in folders, frame by frame."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import ENDINGS, frame_numbers, is_image, read_frames
from detcenter.data.layouts.files import names_below
from detcenter.data.videos import read_video, video_length

_VIDEOS = {".avi", ".mkv", ".mov", ".mp4", ".webm"}


def is_video(path: Path) -> bool:
    """By the ending of its name."""
    return path.suffix.lower() in _VIDEOS


class Source(NamedTuple):
    """A file to detect in."""

    path: Path
    name: str
    """of its results, without an ending; below a folder with its sub-folders"""
    frames: int | None
    """by its header, which a video need not keep to; None where that does not say"""

    @property
    def is_video(self) -> bool:
        return is_video(self.path)

    @property
    def is_single(self) -> bool:
        """An image as usual, whose frame needs no number."""
        return self.frames == 1 and not self.is_video


def files_at(path: Path, leave_out: Path | None = None) -> Iterator[tuple[Path, str]]:
    """The file itself, or all images and videos that a folder holds, each with a name for results.

    In folders only files count that end as images and videos do, and nothing whose name begins
    with a dot. Folders below, linked ones too, are entered once, `leave_out` not at all.

    Raises:
        DataError: there is no such file or folder, or nothing in it.
    """
    if not path.exists():
        raise DataError(Fault(path, "no such image, video or folder"))
    if not path.is_dir():
        yield path, path.stem
        return
    names = [name for name in sorted(names_below(path, leave_out)) if _is_shown(Path(name))]
    if not names:
        known = ", ".join(sorted(ENDINGS) + sorted(_VIDEOS))
        raise DataError(Fault(path, f"no images or videos ({known}) in this folder"))
    for name in names:
        yield path / name, Path(name).with_suffix("").as_posix()


def _is_shown(file: Path) -> bool:
    return (is_image(file.name) or is_video(file)) and not file.name.startswith(".")


def sources(
    files: Iterable[tuple[Path, str]], faults: list[Fault] | None = None
) -> Iterator[Source]:
    """Each of `files` with the number of its frames, and a name that no other has.

    Raises:
        DataError: a header that cannot be read; with a list of `faults` it is put there instead.
    """
    names = _Names()
    for path, name in files:
        source = Source(path, name, None)
        try:
            count = video_length(path) if source.is_video else len(frame_numbers(path))
        except DataError as error:
            if faults is None:
                raise
            faults += error.args
            continue
        source = source._replace(frames=count)
        yield source._replace(name=names.taken(name, source.is_single))


class _Names:
    """Names that are given once, `photo-2` where `photo` is gone.

    The frames of `clip` are `clip_000000` and so on, which no single image may be then.
    """

    def __init__(self) -> None:
        self.given: set[str] = set()
        self.of_frames: set[str] = set()
        self.looked_like: set[str] = set()  # names of which an image looks like a frame

    def taken(self, name: str, single: bool) -> str:
        number, candidate = 1, name
        while not self._is_free(candidate, single):
            number += 1
            candidate = f"{name}-{number}"
        self.given.add(candidate)
        if not single:
            self.of_frames.add(candidate)
        elif _bare(candidate) != candidate:
            self.looked_like.add(_bare(candidate))
        return candidate

    def _is_free(self, name: str, single: bool) -> bool:
        clashes = _bare(name) in self.of_frames if single else name in self.looked_like
        return name not in self.given and not clashes


def _bare(name: str) -> str:
    return re.sub(r"_\d{6,}$", "", name)


def frames_of(source: Source, every: int = 1) -> Iterator[tuple[int | None, np.ndarray]]:
    """Every `every`-th frame, uint8 RGB [H, W, 3], and its number from 0; None of a single image.

    Raises:
        DataError: as soon as something cannot be read.
    """
    read = read_video if source.is_video else read_frames
    for number, image in read(source.path, every):
        yield (None if source.is_single else number), image
