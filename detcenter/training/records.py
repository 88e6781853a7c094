"""The numbers that a run leaves while it goes: a CSV in its folder, and trackers."""

import csv
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch
from accelerate import Accelerator


class RunRecords:
    """Writes one row an epoch to ``metrics.csv`` and the same numbers to accelerate's trackers.

    Args:
        folder: the run's; ``metrics.csv`` is written there.
        accelerator: whose trackers, set up by ``init_trackers``, get the numbers too.
        rows: of the epochs before, of a run that is continued.
    """

    def __init__(
        self, folder: Path, accelerator: Accelerator, rows: Sequence[dict[str, str]] = ()
    ) -> None:
        self._path = folder / "metrics.csv"
        self._accelerator = accelerator
        self.rows = list(rows)
        if accelerator.is_main_process:
            self._write()

    def add(self, epoch: int, numbers: Mapping[str, float]) -> None:
        self.rows.append({"epoch": str(epoch)} | {k: f"{v:.6g}" for k, v in numbers.items()})
        self._accelerator.log(_trackable(numbers), step=epoch)
        if self._accelerator.is_main_process:
            self._write()

    def _write(self) -> None:
        """Whole or not at all: a comparison may be reading it."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        partial = self._path.with_name(self._path.name + ".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(self._path)


def _trackable(numbers: Mapping[str, float]) -> dict[str, float]:
    """Without nan, which is no point of a curve, under names that all trackers take.

    A class may have any name; at one with brackets, say, MLflow would end the run.
    """
    known = {name: value for name, value in numbers.items() if not math.isnan(value)}
    return {re.sub(r"[^\w/ .:-]", "_", name): value for name, value in known.items()}


def peak_memory_mib(device: torch.device) -> float:
    """The most memory in use so far: tensors of a GPU, else of this process as a whole."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
