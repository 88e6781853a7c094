"""What the benchmarks share: medians of alternating repeats, on the device that there is."""

import statistics
import time
from collections.abc import Callable

import torch


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
