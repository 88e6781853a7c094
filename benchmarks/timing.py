"""What the benchmarks share: medians of alternating repeats on the device there is, and JSON."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision


def medians(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one turn to warm up."""
    seconds: dict[str, list[float]] = {arm: [] for arm in steps}
    for _ in range(repeats + 1):
        for arm, step in steps.items():
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[arm].append(time.perf_counter() - start)
    return {arm: statistics.median(values[1:]) for arm, values in seconds.items()}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> dict[str, Any]:
    """The hardware and the versions that a figure depends on."""
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
    }


def heading() -> str:
    """:func:`machine` as the first line of a table."""
    return ", ".join(f"{key} {value}" for key, value in machine().items() if value is not None)


def written(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what was measured, one mapping a row of the table, and on what machine, as JSON.

    Call it after every part that takes long: the file always holds all rows so far. Without a
    ``path`` nothing is written.
    """
    if path is not None:
        values = {"machine": machine(), "rows": list(rows)}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
        part.replace(path)  # whole at any time


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
