"""Kill real runs at random points, go on with them, and compare the end with an undisturbed run's.

    python tests/runs/killing.py --kills 30

trains a small recipe on digits again and again, in processes of their own that are killed
(SIGKILL, now and then SIGTERM) a random time after a random number of checkpoints, until so many
were; every run goes on with ``--resume`` till its end. Prints the differences of the final states;
exit status 1 if there are any.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

TOOL = Path(__file__).parents[2] / "tools" / "train.py"
_OF_THE_CLOCK = ("seconds", "step_seconds", "memory_mib")
MODEL = {
    "name": "ssd",
    "backbone": "shufflenet_v2_x0_5",
    "image_size": 64,
    "strides": [8],
    "anchor_scales": [[0.25]],
    "top_stride": 16,
}
RECIPE = {
    "model": MODEL,
    "center": {"weight": 0.3, "features": "embedding", "warmup_steps": 20},
    "data": {"format": "digits", "digits": {"train": 24, "val": 8}, "workers": 1},
    "train": {
        "epochs": 6,
        "batch_size": 4,
        "lr": 0.001,
        "warmup_steps": 5,
        "eval_every": 2,
        "ema": 0.9,
        "save_every_steps": 2,
        "save_every_minutes": 60,
    },
}


def write_recipe(folder: Path) -> Path:
    path = folder / "recipe.yaml"
    recipe = RECIPE | {"data": RECIPE["data"] | {"root": str(folder / "digits")}}
    path.write_text(yaml.safe_dump(recipe))
    return path


def start(recipe: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(TOOL), *arguments(recipe, folder)]
    with log_of(folder).open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def arguments(recipe: Path, folder: Path) -> list[str]:
    """To start a run with, or to let it go on."""
    resume = ["--resume"] if folder.exists() else []
    return ["--config", str(recipe), "--output", str(folder), *resume]


def log_of(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.log"


def train_whole(recipe: Path, folder: Path, start: Callable[..., Any] = start) -> None:
    """Without a disturbance."""
    assert start(recipe, folder).wait() == 0, log_of(folder).read_text()


def train_killed(
    recipe: Path,
    folder: Path,
    kills: int,
    draw: random.Random,
    start: Callable[..., Any] = start,
) -> int:
    """Kill up to ``kills`` times, then let it end; returns how often it was killed."""
    done = 0
    while done < kills and not (folder / "results.json").exists():
        process = start(recipe, folder)
        saves = draw.randrange(5)
        _wait_for_saves(process, folder / "last.pth", saves)
        # Then anywhere: between two saves, in one, in an evaluation, before the first of all.
        time.sleep(draw.uniform(0, 1 if saves else 10))
        process.send_signal(signal.SIGTERM if draw.random() < 0.2 else signal.SIGKILL)
        done += process.wait() != 0
    train_whole(recipe, folder, start)
    return done


def _wait_for_saves(process: subprocess.Popen[bytes], path: Path, count: int) -> None:
    seen: set[tuple[int, int]] = {_version(path)}
    while len(seen) <= count and process.poll() is None:
        time.sleep(0.002)
        seen.add(_version(path))


def _version(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def differences(a: Path, b: Path) -> Iterator[str]:
    """In what two finished runs differ, but for what a clock says."""
    first, second = (_state(folder) for folder in (a, b))
    for key in sorted(first.keys() | second.keys()):
        if not _same(first.get(key), second.get(key)):
            yield key


def _state(folder: Path) -> dict[str, Any]:
    state = torch.load(folder / "last.pth", weights_only=True)
    state |= {f"best {k}": v for k, v in torch.load(folder / "best.pth", weights_only=True).items()}
    for key in ("rows", "best rows"):
        state[key] = [
            {k: v for k, v in row.items() if k not in _OF_THE_CLOCK} for row in state[key]
        ]
    del state["config"]["output"], state["best config"]["output"]
    state["results.json"] = json.loads((folder / "results.json").read_text())
    with np.load(folder / "detections.npz") as arrays:
        return state | {f"detections {name}": arrays[name] for name in arrays}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if torch.is_tensor(a) and torch.is_tensor(b):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--kills-a-run", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, done, found = random.Random(options.seed), 0, []
    with tempfile.TemporaryDirectory() as name:
        recipe = write_recipe(Path(name))
        train_whole(recipe, Path(name) / "whole")
        number = 0
        while done < options.kills:
            number += 1
            folder, most = (
                Path(name) / f"killed_{number}",
                min(options.kills_a_run, options.kills - done),
            )
            done += train_killed(recipe, folder, most, draw)
            new = list(differences(Path(name) / "whole", folder))
            found += new
            print(f"{done} kills, run {number}: {', '.join(new) or 'no difference'}", flush=True)
    print(f"{done} kills, {len(found)} differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
