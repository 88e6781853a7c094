"""Many runs, a process each, several at a time."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch
from tqdm import tqdm

from detcenter.recipe.config import Config
from detcenter.runs.folder import has_checkpoint
from detcenter.runs.measured import epochs_done, is_finished, measured_run
from detcenter.runs.run import train
from detcenter.training import Stopped

_LOOK = 2.0  # seconds between looks at the runs
_PATIENCE = 10.0  # seconds that a run has to stop


def train_side_by_side(runs: Mapping[Path, Config], jobs: int | None) -> dict[Path, str]:
    """Train and measure every run by its folder; returns why runs failed, by their folder.

    What a run prints goes to ``log.txt`` in its folder. One that was begun goes on from its
    last checkpoint. Whatever happens to a run, the others are trained.

    Args:
        jobs: runs at a time, each on a GPU of its own where there are as many; None is one a GPU,
            and one where there is none. CPU cores are shared out evenly.
    """
    jobs = jobs or torch.cuda.device_count() or 1
    waiting, failed = deque(runs), dict[Path, str]()
    running: dict[int, tuple[SpawnProcess, Path]] = {}  # by their place, 0 to jobs - 1
    total = sum(config.train.epochs for config in runs.values())
    begun, start = sum(map(epochs_done, runs)), time.monotonic()
    with tqdm(
        total=total,
        initial=begun,
        unit="epoch",
        dynamic_ncols=True,
        leave=False,
        disable=not sys.stderr.isatty(),  # a log file gets the line of every run only
    ) as progress:
        try:
            while waiting or running:
                for place in sorted(set(range(jobs)) - set(running))[: len(waiting)]:
                    folder = waiting.popleft()
                    running[place] = _started(runs[folder], folder, place, jobs), folder
                wait([process.sentinel for process, _ in running.values()], timeout=_LOOK)
                done = sum(map(epochs_done, runs))
                progress.update(done - progress.n)
                for place in [p for p, (process, _) in running.items() if not process.is_alive()]:
                    process, folder = running.pop(place)
                    process.join()
                    if process.exitcode != 0:
                        failed[folder] = _last_words(folder, process.exitcode)
                    why = failed.get(folder)
                    left = _left(total - done, done - begun, time.monotonic() - start)
                    progress.write(f"{folder}: {f'failed: {why}' if why else 'done'}{left}")
        finally:
            _stop([process for process, _ in running.values()])
    return failed


def _stop(processes: Sequence[SpawnProcess]) -> None:
    """As Ctrl-C does, which reaches them by itself in a terminal only; by force if that fails."""
    for process in processes:
        if process.pid is not None and sys.platform != "win32":
            os.kill(process.pid, signal.SIGINT)
    for process in processes:
        process.join(_PATIENCE)
        process.kill()
        process.join()


def _started(config: Config, folder: Path, place: int, jobs: int) -> SpawnProcess:
    # Not forked: a process that has used CUDA cannot be.
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(config, folder))
    with _environment(_shares(place, jobs)):
        process.start()
    return process


def _shares(place: int, jobs: int) -> dict[str, str]:
    """The part of the machine that is for one of several runs."""
    gpus, mine = torch.cuda.device_count(), dict[str, str]()
    if jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        mine["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    if jobs > 1 and gpus > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(gpu) for gpu in range(gpus)]
        mine["CUDA_VISIBLE_DEVICES"] = names[place % gpus]
    return mine


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables that a process started inside inherits."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(config: Config, folder: Path) -> None:
    """In a process of its own."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if not is_finished(folder):
        try:
            train(config, folder, resume=has_checkpoint(folder))
        except Stopped as stop:
            print("stopped, and saved")
            sys.exit(128 + stop.signal)
    measured_run(folder)


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its runs; a second one would write beside them."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _last_words(folder: Path, status: int | None) -> str:
    log = folder / "log.txt"
    lines = log.read_text().splitlines() if log.exists() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if status is not None and status < 0:
        said = f"killed by signal {-status}"
    return f"{said} (see {log})"


def _left(epochs: int, done: int, seconds: float) -> str:
    if done <= 0 or epochs <= 0:
        return ""
    return f", about {max(1, round(seconds / done * epochs / 60))} min left"
