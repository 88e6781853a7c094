"""What the options of commands that train many runs ask for."""

from pathlib import Path

from jsonargparse import Namespace

from detcenter.errors import ConfigError
from detcenter.recipe.extras import need
from detcenter.runs.launching import Launch
from detcenter.runs.side_by_side import jobs_of
from detcenter.runs.slurm import slurm_parameters


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
