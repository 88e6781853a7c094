"""What a run changes as it goes, which is what its checkpoints hold to go on to the bit."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from detcenter.recipe.config import Config
from detcenter.runs.collapse import Watch
from detcenter.runs.folder import LAST, PREVIOUS, check_same_run
from detcenter.training import LossMeans, load_newest, save_checkpoint


@dataclass
class RunState:
    """The objects of a run that training changes, and how far it is."""

    model: nn.Module
    average: AveragedModel | None
    optimizer: Any
    schedule: Any
    scaler: Any
    """of the gradients, in float16; None otherwise"""
    watch: Watch
    """the features that the terms of ``model`` saw lately in this epoch"""
    means: LossMeans = field(default_factory=LossMeans)
    """of the losses of this epoch"""
    epochs_done: int = 0
    step: int = 0
    """steps of the epoch that are done"""
    skipped: int = 0
    """steps passed over one after the other"""
    best: float = -math.inf
    """the highest AP"""
    thresholds: dict[str, float] = field(default_factory=dict)
    """by class the score of the best F1 in the last evaluation, where there is one"""

    @property
    def trained(self) -> nn.Module:
        """The model that is evaluated and used: the average, where there is one."""
        return self.model if self.average is None else self.average.module

    def end_epoch(self) -> None:
        self.epochs_done, self.step = self.epochs_done + 1, 0
        self.means = LossMeans()
        self.watch.close()
        self.watch = Watch(self.model)

    def save(
        self,
        path: Path,
        config: Config,
        builder: Mapping[str, Any],
        classes: list[str],
        frequency: Mapping[str, str],
        images_a_step: int,
        rows: list[dict[str, str]],
        before_replace: Callable[[], None] | None = None,
    ) -> None:
        """Write the state between two steps, or after an epoch, to a file of the run's folder."""
        averaging = {}
        if self.average is not None:
            updates = int(self.average.n_averaged)
            averaging = {"weights": self.model.state_dict(), "updates": updates}
        save_checkpoint(
            path,
            path.with_name(PREVIOUS) if path.name == LAST else None,
            before_replace,
            model=self.trained.state_dict(),
            averaging=averaging,
            builder=builder,
            classes=classes,
            config=dataclasses.asdict(config),
            optimizer=self.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            scaler={} if self.scaler is None else self.scaler.state_dict(),
            epoch=self.epochs_done,
            step=self.step,
            images_a_step=images_a_step,
            means=self.means.state_dict(),
            recent=self.watch.state_dict(),
            skipped=self.skipped,
            best=self.best,
            thresholds=self.thresholds,
            frequency=dict(frequency),
            rows=rows,
        )

    def take_up(
        self, folder: Path, config: Config, classes: list[str], images_a_step: int
    ) -> tuple[list[dict[str, str]], str | None]:
        """Become the newest sound state that the run in ``folder`` has saved.

        Returns:
            The rows of its metrics.csv till then, and what is wrong with a newer state.

        Raises:
            CheckpointError: if there is none.
            ConfigError: if it is of another recipe, other classes or steps of other images.
        """
        checkpoint, damage = load_newest(folder / LAST, folder / PREVIOUS)
        check_same_run(config, classes, checkpoint, images_a_step)
        averaging: dict[str, Any] = checkpoint["averaging"]
        self.model.load_state_dict(averaging.get("weights", checkpoint["model"]))
        if self.average is not None:
            self.average.module.load_state_dict(checkpoint["model"])
            self.average.n_averaged.fill_(averaging["updates"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.schedule.load_state_dict(checkpoint["schedule"])
        if self.scaler is not None:
            self.scaler.load_state_dict(checkpoint["scaler"])
        self.epochs_done, self.step = checkpoint["epoch"], checkpoint["step"]
        device = next(self.model.parameters()).device
        self.means.load_state_dict(checkpoint["means"])
        self.watch.load_state_dict(checkpoint["recent"], device)
        self.skipped, self.best = checkpoint["skipped"], checkpoint["best"]
        self.thresholds = checkpoint.get("thresholds", {})  # earlier versions had none
        rows: list[dict[str, str]] = checkpoint["rows"]
        return rows, damage
