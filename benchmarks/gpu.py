"""All that is to be shown on a GPU, in under eight minutes: `make gpu`.

    python benchmarks/gpu.py [--output runs/gpu] [--parts NAME ...] [--dry-run]

Every part is a process of its own with a limit of its own, and runs also if one before it failed.
What a part says goes to FOLDER/log.txt and what it measures to FOLDER/<part>.json while it runs;
FOLDER/summary.json and a table say how the parts ended. Without a GPU, or with --dry-run, the same
parts run with small sizes on the CPU, which shows that they work and nothing more. The exit status
is 1 if a part failed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
_PATIENCE = 10  # times the limit that is for a GPU, on a CPU
LEAST_AP = 0.60  # of configs/digits.yaml in any precision
TOTAL = 475.0  # seconds
# Where the tests marked gpu are, and those that count waits on whatever device there is.
TESTS = [
    "tests/gpu",
    "tests/test_waits.py",
    "tests/models/test_waits_of_steps.py",
    "tests/losses/test_center.py",
]


@dataclass
class Part:
    name: str
    command: list[str]
    limit: float
    """seconds, at most"""
    result: str = "not run"
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"), help="folder for results")
    parser.add_argument("--dry-run", action="store_true", help="small, on the CPU")
    parser.add_argument("--parts", nargs="+", help="only these")
    given = parser.parse_args()
    dry = given.dry_run or not torch.cuda.is_available()
    folder: Path = given.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    parts = parts_in(folder, dry)
    unknown = {*(given.parts or ())} - {part.name for part in parts}
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(p.name for p in parts)}")
    parts = [part for part in parts if not given.parts or part.name in given.parts]
    start = time.monotonic()
    for part in parts:
        left = min(part.limit, TOTAL - (time.monotonic() - start))
        left = _PATIENCE * part.limit if dry else left
        run(part, left, folder, dry)
        _write(folder, parts)
    _show(folder, parts)
    return int(any(part.result != "passed" for part in parts))


def parts_in(folder: Path, dry: bool) -> list[Part]:
    """The order is that of what would be missed most: a machine may be taken away."""
    small = ["--small"] if dry else []
    benchmarks = {
        "around_the_model": (["around_the_model.py"], 60),
        "ssd300": (["whole_steps.py", "--model", "ssd300"], 45),
        "fasterrcnn": (["whole_steps.py", "--model", "fasterrcnn"], 45),
    }
    parts = [
        Part(name, [*_benchmark(*words), *_json(folder, name), *small], limit)
        for name, (words, limit) in benchmarks.items()
    ]
    parts += [_digits(folder, "bf16", dry), _digits(folder, "no" if dry else "fp16", dry)]
    tests = ["-m", "pytest", "-v", "--durations=15", "-p", "no:cacheprovider"]
    tests += ["tests/gpu", "--gpu-dry-run"] if dry else TESTS
    parts.append(Part("tests", [sys.executable, *tests], 150))
    words = ["runs_on_gpu.py", "--folder", str(folder / "runs"), *_json(folder, "runs")]
    parts.append(Part("runs", [*_benchmark(*words), *small], 150))
    return parts


def run(part: Part, limit: float, folder: Path, dry: bool) -> None:
    """In a session of its own, so that what it started ends with it."""
    print(f"\n{part.name} ({limit:.0f} s at most)", flush=True)
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if dry else {}
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    found = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    environment = os.environ | found | hidden
    start = time.monotonic()
    (folder / f"{part.name}.json").unlink(missing_ok=True)
    process = subprocess.Popen(
        part.command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    log = subprocess.Popen(["tee", "-a", str(folder / "log.txt")], stdin=process.stdout)
    try:
        status = process.wait(max(1.0, limit))
        part.result = "passed" if status == 0 else f"failed ({status})"
    except subprocess.TimeoutExpired:
        part.result = f"cut off after {limit:.0f} s"
    finally:
        _end(process)
        log.wait()
    part.seconds = time.monotonic() - start
    if part.result == "passed" and part.name.startswith("digits"):
        _judge(part, folder, dry)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, also where it ended by itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def _benchmark(script: str, *words: str) -> list[str]:
    return [sys.executable, str(ROOT / "benchmarks" / script), *words]


def _json(folder: Path, name: str) -> list[str]:
    return ["--json", str(folder / f"{name}.json")]


def _digits(folder: Path, precision: str, dry: bool) -> Part:
    name = f"digits_{precision}"
    command = [sys.executable, str(ROOT / "tools/train.py"), "--config"]
    command += [str(ROOT / "configs/digits.yaml"), "--output", str(folder / name), "--overwrite"]
    command += ["--train.mixed_precision", precision, "--data.root", str(folder / "digits")]
    if dry:
        command += ["--data.digits", "{train: 8, val: 4}", "--train.epochs", "1"]
        command += ["--model.image_size", "64"]
    return Part(name, command, 60)


def _judge(part: Part, folder: Path, dry: bool) -> None:
    ap = json.loads((folder / part.name / "results.json").read_text())["AP"]
    if not dry and not (ap is not None and ap >= LEAST_AP):
        part.result = f"failed (AP {ap}, due is {LEAST_AP})"
    print(f"{part.name}: AP {ap} in {part.seconds:.1f} s")


def _write(folder: Path, parts: list[Part]) -> None:
    values = {part.name: asdict(part) for part in parts}
    (folder / "summary.json").write_text(json.dumps(values, indent=1))


def _show(folder: Path, parts: list[Part]) -> None:
    for part in parts:
        file = folder / f"{part.name}.json"
        rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
        print(f"\n{part.name}: {part.result}, {part.seconds:.0f} s")
        for row in rows:
            numbers = {k: v for k, v in row.items() if k not in ("what", "arm") and v is not None}
            shown = "  ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items()
            )
            print(f"  {row['what']:44} {row['arm']:28} {shown}")
    print(f"\nall of it in {folder}")


if __name__ == "__main__":
    sys.exit(main())
