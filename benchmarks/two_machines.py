"""How much sooner two commands on one folder finish a comparison of eight runs than one.

    python benchmarks/two_machines.py [--folder FOLDER] [--epochs 20] [--json FILE]

A tiny detector of digits, two variants, four seeds; every run has one thread. First one command
trains all eight. Then, in another folder, two do, as on two machines. One of the two is killed
(SIGKILL) in the middle of its second run, and started again, as when a machine comes back. Printed
are wall seconds, processor seconds of all processes, and the machine's load: beside other work wall
times say little. Then what must hold, or the exit status is 1: no epoch of a run was trained twice,
and both comparisons have the same numbers.
"""

import argparse
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recording import Record

_RECIPE = """\
model: {name: ssd, backbone: shufflenet_v2_x0_5, image_size: 64, strides: [8], \
anchor_scales: [[0.25]], top_stride: 16}
center: {weight: 0.3, features: embedding}
data: {format: digits, root: ROOT, digits: {train: 40, val: 10}, workers: 0}
train: {epochs: EPOCHS, batch_size: 8, lr: 0.001, eval_every: 1000, save_every_steps: 5}
"""
_RUNS = 8
_PR_SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="for the runs; else one that is deleted")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        recipe = folder / "recipe.yaml"
        text = _RECIPE.replace("ROOT", str(folder / "digits"))
        recipe.write_text(text.replace("EPOCHS", str(arguments.epochs)))
        _adopt()
        _measure(folder, recipe, Record(arguments.json))


def _measure(folder: Path, recipe: Path, record: Record) -> None:
    with _Clock(record, "one command"):
        _ended_well(_started(recipe, folder / "one"))
    with _Clock(record, "two commands, one killed and started again"):
        commands = [_started(recipe, folder / "two") for _ in range(2)]
        killed = _kill_in_a_run(folder / "two", commands[1])
        commands[1] = _started(recipe, folder / "two")
        for command in commands:
            _ended_well(command)
    epochs = {run: _epochs_in(run) for run in sorted((folder / "two").glob("*/seed_*"))}
    again = {run: ended for run, ended in epochs.items() if len(set(ended)) < len(ended)}
    whole = {len(ended) for ended in epochs.values()}
    results = [json.loads((folder / name / "compare.json").read_text()) for name in ("one", "two")]
    same = _numbers(results[0]) == _numbers(results[1])
    print(f"{len(epochs)} runs, {sorted(whole)} epochs each; epochs trained twice: {len(again)}")
    print(f"killed while it trained {killed}; the comparisons are {'' if same else 'not '}the same")
    sys.exit(0 if len(epochs) == _RUNS and not again and len(whole) == 1 and same else 1)


class _Clock:
    """Wall and processor seconds of what is started inside, and the load before and after."""

    def __init__(self, record: Record, what: str) -> None:
        self._record, self._what = record, what

    def __enter__(self) -> None:
        self._start, self._load = time.monotonic(), os.getloadavg()[0]
        self._spent = _of_children()

    def __exit__(self, *error: object) -> None:
        self._record.add(
            "a comparison of eight runs",
            self._what,
            wall_s=time.monotonic() - self._start,
            processor_s=_of_children() - self._spent,
            load_before=self._load,
            load_after=os.getloadavg()[0],
        )


def _of_children() -> float:
    """Processor seconds of all processes that were started and have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass
    times = os.times()
    return times.children_user + times.children_system


def _adopt() -> None:
    """What outlives a command becomes this process's child: its runs are those of a server."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        sys.exit("this benchmark is for Linux")


def _started(recipe: Path, output: Path) -> subprocess.Popen[bytes]:
    variants = ["--set", "plain: center=null", "--set", "center: center.weight=0.3"]
    tool = Path(__file__).parents[1] / "tools" / "compare.py"
    command = [sys.executable, str(tool), "--config", str(recipe), *variants]
    command += ["--seeds", str(_RUNS // 2), "--jobs", "1", "--output", str(output)]
    with (output.parent / f"{output.name}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # by which Linux may share out processors (autogroup)
        )


def _kill_in_a_run(output: Path, command: subprocess.Popen[bytes]) -> str:
    """Once it is past the first epoch of its second run; returns that run's name."""
    while True:
        for run in output.glob("*/seed_*"):
            claimed = any(f"process {command.pid}" in _text(file) for file in run.glob("claim.*"))
            done = [*output.glob("*/seed_*/measured.json")]
            if claimed and len(done) >= 2 and len(_epochs_in(run)) >= 1:
                command.send_signal(signal.SIGKILL)
                command.wait()
                return str(run.relative_to(output))
        if command.poll() is not None:
            sys.exit(f"a command ended before it was killed; see {output}.log")
        time.sleep(0.05)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _ended_well(command: subprocess.Popen[bytes]) -> None:
    if command.wait():
        sys.exit(f"a command ended with status {command.returncode}")


def _epochs_in(run: Path) -> Sequence[int]:
    """The epochs that were ended there, by whomever."""
    return [int(n) for n in re.findall(r"^epoch (\d+)/", _text(run / "log.txt"), re.M)]


def _numbers(comparison: dict[str, Any]) -> list[Any]:
    return [[variant["name"], variant["AP"]["values"]] for variant in comparison["variants"]]


if __name__ == "__main__":
    main()
