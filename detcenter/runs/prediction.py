"""Detections in images and videos as a stream: nothing is kept of what has passed."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detcenter.data import DataError, Fault, Source, files_at, frames_of, resized, sources
from detcenter.evaluation import Prediction
from detcenter.runs.passes import input_size, scale_back, scoring, size_within
from detcenter.training import detect


class _Frame(NamedTuple):
    source: Source
    number: int | None
    image: np.ndarray
    small: Tensor
    """uint8 [3, H, W], of the model's size"""


def predict(
    model: nn.Module,
    images: str | Path | Sequence[str | Path],
    every: int = 1,
    batch_size: int = 8,
    workers: int = 0,
) -> Iterator[Prediction]:
    """What a detector finds in images and videos, one after another: nothing is kept.

    It sees them as in training and in `detcenter predict`: brought to its size by averaging, where
    torchvision's own interpolation skips pixels.

    Args:
        model: of :func:`load`, or any of torchvision's detectors.
        images: a file, a folder with all below it, or several of them.
        every: of videos, and of files with several frames, only every so-many-th frame.
        batch_size: images that the model gets at once.
        workers: threads that load images ahead.

    Yields:
        For every image or frame its `file`, `frame` (from 0; None where a file has one image),
        `image` (uint8 RGB [H, W, 3]) and `detection`, the dict of `boxes` [N, 4] (xyxy in pixels
        of `image`), `scores` and `labels` that torchvision's detectors give. Of a model with an
        `unknown_scorer` there are `unknown_scores` [N] too; what lies above its `threshold` looks
        like none of the classes.

    Raises:
        DataError: when it comes to an image that cannot be read.
    """
    named = [images] if isinstance(images, str | Path) else images
    files = (file for name in named for file in files_at(Path(name)))
    return predictions(model, sources(files), every, batch_size, workers)


def predictions(
    model: nn.Module,
    files: Iterable[Source],
    every: int = 1,
    batch_size: int = 8,
    workers: int = 0,
    faults: list[Fault] | None = None,
) -> Iterator[Prediction]:
    """What ``model`` finds in every image and every `every`-th frame of `files`, in their order.

    Images are brought to the model's size as in training. No more than two batches of them are in
    memory.

    Args:
        batch_size: images that the model gets at once.
        workers: threads that load images ahead (decoders run beside each other).

    Raises:
        DataError: an image that cannot be read; with a list of `faults` it is put there instead,
            and the next ones are not kept waiting.
    """
    size = input_size(model)
    jobs = (job for source in files for job in _jobs(source, size, every))
    loaded = _sound(_ahead(jobs, workers, batch_size), faults)
    device = next(model.parameters()).device
    scores = scoring(model, getattr(model, "unknown_scorer", None))
    while batch := list(itertools.islice(loaded, batch_size)):
        images = [frame.small for frame in batch]
        detections = detect(model, [(images, [])], device, scores)
        for frame, found in zip(batch, detections, strict=True):
            height, width = frame.image.shape[:2]
            found["boxes"] = found["boxes"] * scale_back(width, height, size)
            yield Prediction(frame.source.path, frame.source.name, frame.number, frame.image, found)


def _jobs(source: Source, size: Any, every: int) -> Iterator[Callable[[], _Frame]]:
    """What is left to do for each frame: of a single image all, of others, read in turn, to resize.

    Errors are raised by a job too, so that they come in their turn.
    """
    if source.is_single:
        yield partial(_single, source, size)
        return
    try:
        for number, image in frames_of(source, every):
            yield partial(_frame, source, size, number, image)
    except DataError as error:
        yield partial(_fail, error)


def _single(source: Source, size: Any) -> _Frame:
    number, image = next(frames_of(source))
    return _frame(source, size, number, image)


def _frame(source: Source, size: Any, number: int | None, image: np.ndarray) -> _Frame:
    height, width = image.shape[:2]
    small = resized(image, size_within(width, height, size))
    tensor = torch.from_numpy(np.ascontiguousarray(small.transpose(2, 0, 1)))
    return _Frame(source, number, image, tensor)


def _fail(error: DataError) -> _Frame:
    raise error


def _ahead(
    jobs: Iterable[Callable[[], _Frame]], workers: int, ahead: int
) -> Iterator[Callable[[], _Frame]]:
    """The jobs in their order, each done or being done by a thread, `ahead` of them at most."""
    if not workers:
        yield from jobs
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Callable[[], _Frame]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job).result)
            if len(waiting) > ahead:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(cancel_futures=True)


def _sound(jobs: Iterable[Callable[[], _Frame]], faults: list[Fault] | None) -> Iterator[_Frame]:
    for job in jobs:
        try:
            yield job()
        except DataError as error:
            if faults is None:
                raise
            faults += error.args
