"""Whole runs: images a second, and many trainings side by side with how busy they keep the GPU.

    python benchmarks/runs_on_gpu.py --folder FOLDER [--json FILE]

One training of SSD300 with loading processes; then one, and eight, of the digits at 384 pixels
(`detcenter compare --jobs 8`), the seconds of a step and of an evaluation in each. What
`nvidia-smi` says of the GPU is asked twice a second. --small is for trying it out.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recording import Record

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True, help="for data and runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    record = Record(given.json)
    given.folder.mkdir(parents=True, exist_ok=True)
    _images_a_second(record, given.folder, given.small)
    _side_by_side(record, given.folder, given.small)


def _images_a_second(record: Record, folder: Path, small: bool) -> None:
    sizes = (8, 4, 4) if small else (1920, 32, 32)
    options = _options(folder / "many", *sizes) | {"train.epochs": 3, "train.eval_every": 3}
    workers = 0 if small else max(1, (os.cpu_count() or 1) - 2)
    options |= {"data.workers": workers}
    run, recipe = folder / "images_a_second", "digits"
    if small:
        options |= {"model.image_size": 64}
    else:
        recipe = "ssd300_vgg16_coco"
        of_coco = ("train", "val", "train_images", "val_images")
        options |= {f"data.{key}": "null" for key in of_coco} | {"model.weights_backbone": "null"}
        options |= {"data.format": "digits", "train.mixed_precision": "bf16", "train.lr": 1e-4}
    _run("train", recipe, options, run)
    step = _median(run, "step_seconds", skip=1)
    what = f"trainer, {'digits' if small else 'SSD300'}, {sizes[2]} images a step"
    record.add(what, f"{workers} loading processes", images_a_second=sizes[2] / step)


def _side_by_side(record: Record, folder: Path, small: bool) -> None:
    jobs, epochs = (2, 1) if small else (8, 2)
    sizes = (8, 4, 4) if small else (160, 200, 8)
    options = _options(folder / "few", *sizes) | {"model.image_size": 64 if small else 384}
    options |= {"train.epochs": epochs, "train.eval_every": epochs}
    options |= {"data.workers": 0 if small else 1}
    arms = {"alone": folder / "alone" / "one", f"{jobs} side by side": folder / "beside"}
    for arm, place in arms.items():
        with _utilisation() as busy:
            if arm == "alone":
                _run("train", "digits", options, place)
                runs = [place]
            else:
                half = {"seeds": max(2, jobs // 2), "jobs": jobs, "train.trackers": "[]"}
                sets = ("--set", "center=null", "--set", "recipe")
                _run("compare", "digits", options | half, place, *sets)
                runs = sorted(file.parent for file in place.rglob("metrics.csv"))
        record.add(
            f"digits, {sizes[2]} images a step",
            arm,
            step_seconds=statistics.median(_median(run, "step_seconds") for run in runs),
            evaluation_seconds=statistics.median(_evaluation(run, options) for run in runs),
            gpu_busy_percent=statistics.median(busy) if busy else None,
        )


def _options(data: Path, train: int, val: int, batch: int) -> dict[str, object]:
    return {
        "data.root": data,
        "data.digits": f"{{train: {train}, val: {val}}}",
        "train.batch_size": batch,
        "train.warmup_steps": 0,
    }


def _run(command: str, recipe: str, options: dict[str, object], folder: Path, *more: str) -> None:
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    script = [sys.executable, str(ROOT / "tools" / f"{command}.py")]
    given = ["--config", str(ROOT / "configs" / f"{recipe}.yaml"), "--output", str(folder)]
    overwrite = ["--overwrite"] if command == "train" else []
    subprocess.run([*script, *given, *words, *overwrite, *more], check=True)


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def _median(run: Path, column: str, skip: int = 0) -> float:
    """Over epochs, without the first ``skip``, in which processes start."""
    return statistics.median(float(row[column]) for row in _rows(run)[skip:])


def _evaluation(run: Path, options: dict[str, object]) -> float:
    """What the last epoch took beyond its steps."""
    images = int(str(options["data.digits"]).partition("train: ")[2].partition(",")[0])
    last = _rows(run)[-1]
    steps = images // int(str(options["train.batch_size"]))
    return float(last["seconds"]) - steps * float(last["step_seconds"])


@contextmanager
def _utilisation() -> Iterator[list[float]]:
    """Percents of the time in which a kernel ran; none where there is no GPU."""
    found: list[float] = []
    over = threading.Event()
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]

    def watch() -> None:
        while not over.wait(0.5):
            try:
                said = subprocess.run(query, capture_output=True, text=True, timeout=5)
                found.append(float(said.stdout.splitlines()[0]))
            except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    main()
