"""Trackers, which get the numbers of ``metrics.csv`` too: those that accelerate knows by name."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, TensorBoardTracker, get_available_trackers

from detcenter.errors import ConfigError
from detcenter.recipe.config import Config, flat


def check_trackers(names: Sequence[str]) -> None:
    """Before anything that takes long; accelerate would pass over a missing package in silence."""
    installed = list(map(str, get_available_trackers()))
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            nearest = difflib.get_close_matches(name, LOGGER_TYPE_TO_CLASS, n=1, cutoff=0.0)
            raise ConfigError(
                f"train.trackers: unknown tracker {name!r}; the nearest known is {nearest[0]!r}"
            )
        if names.count(name) > 1:
            raise ConfigError(f"train.trackers names {name!r} twice")
        if name not in installed:
            raise ConfigError(f"train.trackers: {name} is not installed: pip install {name}")


def open_trackers(accelerator: Accelerator, config: Config, folder: Path, epochs_done: int) -> None:
    """Start the recipe's trackers for the run in ``folder``.

    Raises:
        ConfigError: if one does not start, for want of a login, say.
    """
    # An object, not a name: for TensorBoard the project would be the folder, and of an epoch that
    # was begun before the run was continued it has to forget what is there.
    tensorboard = TensorBoardTracker("tensorboard", folder, purge_step=epochs_done + 1)
    names = config.train.trackers
    accelerator.log_with = [tensorboard if name == "tensorboard" else name for name in names]
    try:
        accelerator.init_trackers("detcenter", init_kwargs=_options(folder, epochs_done > 0))
        for tracker in accelerator.trackers:
            if tracker is not tensorboard:  # which would show a recipe as another run
                tracker.store_init_configuration(_scalars(config))
    except Exception as error:  # each has its own, with no class in common
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"train.trackers: {reason}") from error


def _options(folder: Path, continued: bool) -> dict[str, dict[str, Any]]:
    """The run's name, and its folder for what is left on this machine, as each takes them."""
    name = folder.name
    return {
        "aim": {"experiment": name},
        "clearml": {"task_name": name},
        "dvclive": {"dir": str(folder / "dvclive"), "resume": continued},
        "mlflow": {"run_name": name},
        "swanlab": {"experiment_name": name, "logdir": str(folder / "swanlab")},
        "trackio": {"name": name},
        "wandb": {"name": name, "dir": str(folder)},
    }


def _scalars(config: Config) -> dict[str, Any]:
    """The recipe by its dotted keys; lists, which accelerate does not promise to pass, as text."""
    return {k: str(v) if isinstance(v, list) else v for k, v in flat(config).items()}
