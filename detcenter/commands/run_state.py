"""What of a run is in its checkpoints: everything that it needs to go on, to the bit."""

import dataclasses
from typing import TYPE_CHECKING, Any

from detcenter.commands.run_folder import LAST, PREVIOUS, check_same_run
from detcenter.training import load_newest, save_checkpoint

if TYPE_CHECKING:
    from detcenter.commands.train import Run


def save(run: "Run", name: str) -> None:
    """Write the state between two steps, or after an epoch, to a file of the run's folder."""
    averaging = {}
    if run.average is not None:
        updates = int(run.average.n_averaged)
        averaging = {"weights": run.model.state_dict(), "updates": updates}
    save_checkpoint(
        run.folder / name,
        run.folder / PREVIOUS if name == LAST else None,
        model=run.trained.state_dict(),
        averaging=averaging,
        builder=run.builder,
        classes=run.classes,
        config=dataclasses.asdict(run.config),
        optimizer=run.optimizer.state_dict(),
        schedule=run.schedule.state_dict(),
        scaler=run.accelerator.scaler.state_dict() if run.accelerator.scaler else {},
        epoch=run.epochs_done,
        step=run.step,
        images_a_step=run.batches.images_a_step,
        means=run.means.state_dict(),
        recent=run.watch.state_dict(),
        skipped=run.skipped,
        best=run.best,
        rows=run.records.rows,
    )


def take_up(run: "Run") -> list[dict[str, str]]:
    """Put the newest sound state into a run; returns the rows of its metrics.csv till then."""
    checkpoint, damage = load_newest(run.folder / LAST, run.folder / PREVIOUS)
    if damage is not None:
        run.say(damage)
    check_same_run(run.config, run.classes, checkpoint, run.batches.images_a_step)
    averaging: dict[str, Any] = checkpoint["averaging"]
    run.model.load_state_dict(averaging.get("weights", checkpoint["model"]))
    if run.average is not None:
        run.average.module.load_state_dict(checkpoint["model"])
        run.average.n_averaged.fill_(averaging["updates"])
    run.optimizer.load_state_dict(checkpoint["optimizer"])
    run.schedule.load_state_dict(checkpoint["schedule"])
    if run.accelerator.scaler:
        run.accelerator.scaler.load_state_dict(checkpoint["scaler"])
    run.epochs_done, run.step = checkpoint["epoch"], checkpoint["step"]
    run.means.load_state_dict(checkpoint["means"])
    run.watch.load_state_dict(checkpoint["recent"])
    run.skipped, run.best = checkpoint["skipped"], checkpoint["best"]
    rows: list[dict[str, str]] = checkpoint["rows"]
    return rows
