"""Where many runs are trained: here, or as jobs of SLURM."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detcenter.recipe.config import Config
from detcenter.runs.side_by_side import Jobs, train_side_by_side


class Launch(NamedTuple):
    jobs: Jobs = None
    """runs at a time"""
    slurm: Mapping[str, str] | None = None
    """what is asked of SLURM for each run; None trains here"""
    folder: Path = Path("runs")
    """for what SLURM's jobs leave"""


def launched(
    runs: Mapping[Path, Config],
    launch: Launch,
    lenders: Mapping[Path, Sequence[Path]] | None = None,
) -> dict[Path, str]:
    """Train every run as :func:`train_side_by_side` does, where ``launch`` says."""
    if launch.slurm is None or not runs:
        return train_side_by_side(runs, launch.jobs, lenders)
    from detcenter.runs.slurm import train_on_slurm  # needs the extra

    return train_on_slurm(runs, launch.jobs, lenders or {}, launch.slurm, launch.folder)
