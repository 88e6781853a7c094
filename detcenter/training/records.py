"""What a run leaves in its folder while it goes: a CSV of numbers and TensorBoard events."""

import csv
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch
from accelerate import Accelerator


class RunRecords:
    """Writes one row an epoch to ``metrics.csv`` and the same numbers to accelerate's trackers.

    Args:
        folder: the run's; ``metrics.csv`` is written there.
        accelerator: whose trackers, set up by ``init_trackers``, get the numbers too.
        first_epoch: rows of this and later epochs, left by a run that is continued, are dropped.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, first_epoch: int = 1) -> None:
        self._path = folder / "metrics.csv"
        self._accelerator = accelerator
        self.rows: list[dict[str, str]] = []
        if first_epoch > 1 and self._path.exists():
            with self._path.open(newline="") as file:
                kept = csv.DictReader(file)
                self.rows = [row for row in kept if int(row["epoch"]) < first_epoch]

    def add(self, epoch: int, numbers: Mapping[str, float]) -> None:
        self.rows.append({"epoch": str(epoch)} | {k: f"{v:.6g}" for k, v in numbers.items()})
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        self._accelerator.log(dict(numbers), step=epoch)


def peak_memory_mib(device: torch.device) -> float:
    """The most memory in use so far: tensors of a GPU, else of this process as a whole."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
