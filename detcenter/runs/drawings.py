"""Pictures of detections: a PNG an image, a video a video."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from detcenter.data import Source, frame_numbers, frame_rate, is_video, video_writer
from detcenter.evaluation import Prediction, draw_boxes


@contextmanager
def drawings(
    folder: Path, classes: Sequence[str], every: int = 1, workers: int = 0
) -> Iterator[Callable[[Prediction], None]]:
    """Gives a function that draws a prediction: in ``NAME.png``, of a video in ``NAME.mp4``.

    The frames of a video come one after another. If they are every `every`-th only, there are so
    many fewer a second. ``workers`` threads draw pictures, which takes longer than many a detector.
    """
    current = ""
    add: Callable[[np.ndarray], None] | None = None
    with ExitStack() as video, _threads(workers) as do:

        def write(found: Prediction) -> None:
            nonlocal current, add
            if found.name != current:
                video.close()
                current, add = found.name, None
                (folder / current).parent.mkdir(parents=True, exist_ok=True)
                if is_video(found.file):
                    rate = frame_rate(found.file) / every
                    add = video.enter_context(video_writer(folder / f"{current}.mp4", rate))
            if add is not None:
                add(_drawn(found, classes))
            else:
                do(partial(_save, folder / f"{found.stem}.png", found, classes))

        yield write


def _save(path: Path, found: Prediction, classes: Sequence[str]) -> None:
    Image.fromarray(_drawn(found, classes)).save(path)


def _drawn(found: Prediction, classes: Sequence[str]) -> np.ndarray:
    boxes, labels, scores = (found.detection[key] for key in ("boxes", "labels", "scores"))
    return draw_boxes(found.image, boxes, labels, classes, scores)


@contextmanager
def _threads(workers: int) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Gives a function that has jobs done, by threads if there are any, and waits for the last."""
    if not workers:
        yield lambda job: job()
        return
    waiting: deque[Future[None]] = deque()

    def do(job: Callable[[], None]) -> None:
        waiting.append(pool.submit(job))
        if len(waiting) > 2 * workers:
            waiting.popleft().result()

    with ThreadPoolExecutor(workers) as pool:
        yield do
        for future in waiting:
            future.result()


def drawn_files(folder: Path, source: Source, every: int = 1) -> Iterable[Path]:
    """Those that :func:`drawings` makes of a source."""
    if source.is_video or source.is_single:
        return [folder / f"{source.name}{'.mp4' if source.is_video else '.png'}"]
    numbers = frame_numbers(source.path)[::every]
    return [folder / f"{source.name}_{number:06d}.png" for number in numbers]
