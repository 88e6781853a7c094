"""The options of commands that train many runs: how many at a time, and where."""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from detcenter.errors import ConfigError
from detcenter.recipe.extras import need
from detcenter.runs.launching import Launch
from detcenter.runs.side_by_side import jobs_of
from detcenter.runs.slurm import slurm_parameters

OPTIONS = {"jobs", "launcher", "slurm"}


def add_launching(parser: ArgumentParser) -> None:
    """Let ``parser`` take them."""
    parser.add_argument(
        "--jobs", type=str, help="runs at a time; null is one a GPU, auto as many as pay"
    )
    parser.add_argument(
        "--launcher", type=str, help="slurm: each run is a job; null trains on this machine"
    )
    parser.add_argument(
        "--slurm",
        type=str,
        action="append",
        help="what a job asks for: time=4:00:00 partition=gpu gpus=1 cpus=8, and sbatch's others",
    )


def launch_of(arguments: Namespace, folder: Path) -> Launch:
    """What they say, for runs in ``folder``.

    Raises:
        ConfigError: if it does not fit together, or a package is missing.
    """
    jobs, launcher = jobs_of(arguments.jobs), arguments.launcher
    if launcher is None and arguments.slurm:
        raise ConfigError("--slurm goes along with --launcher slurm")
    if launcher is None:
        return Launch(jobs)
    if launcher != "slurm":
        raise ConfigError(f"--launcher {launcher}: slurm is the only one")
    if jobs == "auto":
        raise ConfigError("--jobs auto is for one machine; give --launcher slurm a number, or none")
    need("submitit", "slurm", "--launcher slurm")
    return Launch(jobs, slurm_parameters(arguments.slurm or []), folder / "slurm")
