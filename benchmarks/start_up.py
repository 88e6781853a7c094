"""From the command to the first step, with a data set of COCO's size: time and memory by stage.

    python benchmarks/start_up.py                              # COCO's size, one process
    python benchmarks/start_up.py --classes 1203 --processes 4
    python benchmarks/start_up.py --images 11800 --boxes 86000 --folder here --json figures.json

makes a data set in COCO's layout (annotations drawn at random, with polygons; images are links to
64 small JPEG files, a 24th as many for validation), starts `detcenter train` on it twice, with an
empty cache of what is known of images and with the one that the first start leaves, and stops each
after its first step. Wall and CPU seconds of each stage are without those of the stages in it; of
several processes those of the slowest are shown, and the largest memory. Decoding is a stage of
its own: its wall time is that of all waiting for images to be looked at, its CPU time that of its
threads; what looking costs beside is in "checking images". The interpreter's start counts as
"imports".
"""

import argparse
import functools
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from PIL import Image

JPEGS, WIDTH, HEIGHT, POINTS = 64, 320, 240, 25
MODEL = {
    "name": "ssd",
    "backbone": "shufflenet_v2_x0_5",
    "image_size": 64,
    "strides": [8],
    "anchor_scales": [[0.25]],
    "top_stride": 16,
}
# Where the functions are called that a stage consists of.
STAGES = {
    "layout": ["detcenter.runs.run.resolved"],
    "annotations": ["detcenter.recipe.datasets.read_labelled"],
    "checking images": ["detcenter.recipe.datasets.look_at"],
    "findings": ["detcenter.recipe.datasets._unit_faults", "detcenter.recipe.datasets.in_words"],
    "data sets": ["detcenter.runs.run.training_set", "detcenter.runs.run.validation_set"],
    "copies": ["detcenter.runs.run.warn_of_copies"],
    "frequency groups": ["detcenter.runs.run.frequency_groups"],
    "model": ["detcenter.runs.run.model_for"],
    "limits": ["detcenter.runs.run.remark_limits"],
    "first step": ["detcenter.runs.run.train_step"],
}
_BEGUN, _FIGURES = "START_UP_BEGUN", "START_UP_FIGURES"  # variables for the processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--boxes", type=int, default=860_000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--folder", help="where the data set is made, or was before; kept then")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary).resolve()
        if not (folder / "annotations").exists():
            make(folder, arguments.images, arguments.boxes, arguments.classes)
        starts = [
            start(folder, Path(temporary), arguments.processes, str(number))
            for number in range(1, arguments.starts + 1)
        ]
    print_table(starts)
    if arguments.json:
        machine = {"cpus": os.cpu_count(), "machine": platform.platform()}
        content = machine | {"arguments": vars(arguments), "starts": starts}
        Path(arguments.json).write_text(json.dumps(content, indent=1) + "\n")


def make(folder: Path, images: int, boxes: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    (folder / "jpegs").mkdir(parents=True)
    for number in range(JPEGS):
        small = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        large.save(folder / f"jpegs/{number}.jpg")
    (folder / "annotations").mkdir()
    for part, share in (("train", 1), ("val", 24)):
        write_part(folder, part, images // share, boxes // share, classes, rng)


def write_part(
    folder: Path, part: str, images: int, boxes: int, classes: int, rng: np.random.Generator
) -> None:
    (folder / part).mkdir()
    for number in range(images):
        os.link(folder / f"jpegs/{number % JPEGS}.jpg", folder / part / f"{number:012d}.jpg")
    corners = rng.uniform(0, [WIDTH - 100, HEIGHT - 100], (boxes, 2)).round(2).tolist()
    sides = rng.uniform(10, 100, (boxes, 2)).round(2).tolist()
    # Most classes are rare, and every class is there.
    labels = np.minimum(rng.zipf(1.3, boxes), 1 + np.arange(boxes) % classes).tolist()
    of_images = rng.integers(0, images, boxes).tolist()
    polygons = [json.dumps([rng.uniform(0, 300, 2 * POINTS).round(2).tolist()]) for _ in range(64)]
    with (folder / f"annotations/instances_{part}.json").open("w") as file:
        file.write('{"info": {}, "images": [')
        file.write(", ".join(map(image_record, range(images))))
        file.write('], "annotations": [')
        for n in range(boxes):
            (x, y), (w, h) = corners[n], sides[n]
            file.write(
                f'{", " if n else ""}{{"segmentation": {polygons[n % 64]}, "area": {w * h:.2f}, '
                f'"iscrowd": {int(n % 100 == 0)}, "image_id": {of_images[n]}, '
                f'"bbox": [{x}, {y}, {w}, {h}], "category_id": {labels[n]}, "id": {n}}}'
            )
        names = [{"id": k, "name": f"class {k}"} for k in range(1, classes + 1)]
        file.write(f'], "categories": {json.dumps(names)}}}')


def image_record(number: int) -> str:
    return (
        f'{{"license": 1, "file_name": "{number:012d}.jpg", "height": {HEIGHT}, "width": {WIDTH}, '
        f'"date_captured": "2013-11-14 17:02:52", "id": {number}}}'
    )


def start(folder: Path, temporary: Path, processes: int, name: str) -> list[dict[str, Any]]:
    """The figures of every process of one start."""
    recipe, figures = temporary / "recipe.yaml", temporary / f"figures_{name}"
    data = {"format": "coco", "root": str(folder), "workers": 2}
    data |= {f"{part}_images": part for part in ("train", "val")}
    data |= {part: f"annotations/instances_{part}.json" for part in ("train", "val")}
    recipe.write_text(yaml.safe_dump({"model": MODEL, "data": data, "train": {"batch_size": 8}}))
    figures.mkdir()
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(several if processes > 1 else []), __file__, "--measured"]
    command += ["train", "--config", str(recipe), "--output", str(temporary / f"run_{name}")]
    known = {_BEGUN: str(time.time()), _FIGURES: str(figures)}
    known |= {"DETCENTER_CACHE": str(temporary / "cache"), "PYTHONPATH": str(Path.cwd())}
    subprocess.run(command, env=os.environ | known, check=True)
    return [json.loads(file.read_text()) for file in sorted(figures.iterdir())]


def print_table(starts: list[list[dict[str, Any]]]) -> None:
    for number, processes in enumerate(starts, start=1):
        print(f"\nstart {number}, processes: {len(processes)}")
        print(f"{'':20}{'wall s':>9}{'CPU s':>9}{'MiB':>9}")
        slowest = max(processes, key=lambda figures: figures["total"]["wall"])
        for stage, found in slowest.items():
            print(f"{stage:20}{found['wall']:9.1f}{found['cpu']:9.1f}{found['mib']:9.0f}")
        most = max(figures["total"]["mib"] for figures in processes)
        cpu = sum(figures["total"]["cpu"] for figures in processes)
        print(f"all processes: {cpu:.1f} CPU s, at most {most:.0f} MiB in one")


class Stages:
    """Seconds of nested stages, each without those in it, and the memory at its end."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self.inner: list[list[float]] = []  # wall and CPU seconds within each stage that is open

    def add(self, stage: str, wall: float, cpu: float) -> None:
        of = self.found.setdefault(stage, {"wall": 0.0, "cpu": 0.0, "mib": 0.0})
        of["wall"] += wall
        of["cpu"] += cpu
        of["mib"] = peak_mib()

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self.inner.append([0.0, 0.0])
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **options)
            finally:
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                within = self.inner.pop()
                self.add(stage, wall - within[0], cpu - within[1])
                if self.inner:
                    self.inner[-1][0] += wall
                    self.inner[-1][1] += cpu

        return timed


def peak_mib() -> float:
    """Of this process alone; what getrusage says holds what was there before exec too."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(arguments: list[str]) -> None:
    """Train as ``arguments`` say until the end of the first step, and write the figures."""
    stages, threads = Stages(), [0.0]
    from detcenter.cli import main as detcenter

    import_module("detcenter.commands.train")
    import_module("detcenter.runs.run")
    stages.add("imports", time.time() - float(os.environ[_BEGUN]), time.process_time())
    for stage, names in STAGES.items():
        for name in names:
            module, _, function = name.rpartition(".")
            at = import_module(module)
            setattr(at, function, stages.timed(stage, getattr(at, function)))
    count_decoding(threads)
    end_at_first_step(stages, threads)
    raise SystemExit(detcenter(arguments))


def count_decoding(threads: list[float]) -> None:
    """Add the CPU seconds of the threads that decode to ``threads``."""
    checks: Any = import_module("detcenter.data.checks")
    look = checks._read

    def counted(*args: Any) -> Any:
        begun = time.thread_time()
        try:
            return look(*args)
        finally:
            threads[0] += time.thread_time() - begun

    checks._read = counted


def end_at_first_step(stages: Stages, threads: list[float]) -> None:
    run: Any = import_module("detcenter.runs.run")
    step = run.train_step

    def last(*args: Any) -> None:
        step(*args)
        wall = time.time() - float(os.environ[_BEGUN])
        known = [sum(of[key] for of in stages.found.values()) for key in ("wall", "cpu")]
        stages.add("first batch, rest", wall - known[0], time.process_time() - known[1])
        found = stages.found | {
            "of it decoding": {"wall": 0.0, "cpu": threads[0], "mib": 0.0},
            "total": {"wall": wall, "cpu": time.process_time(), "mib": peak_mib()},
        }
        file = Path(os.environ[_FIGURES]) / f"{os.environ.get('RANK', '0')}.json"
        file.write_text(json.dumps(found))
        raise SystemExit(0)

    run.train_step = last


if __name__ == "__main__":
    if "--measured" in sys.argv:
        measured(sys.argv[sys.argv.index("--measured") + 1 :])
    else:
        main()
