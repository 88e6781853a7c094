"""`detcenter train`: a recipe in, a run folder out."""

import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from detcenter.commands import wiring
from detcenter.config import Config, ConfigError, TrainConfig, config_from_dict, differences
from detcenter.data import DetectionDataset, read_image
from detcenter.evaluation import evaluate_detections, metrics_json, results_table, side_by_side
from detcenter.training import (
    RunRecords,
    collate,
    describe_losses,
    detect,
    fit,
    load_checkpoint,
    make_optimizer,
    make_schedule,
    save_checkpoint,
    train_epoch,
)

_PICTURED = 6  # validation images in the run's picture
_FREE_TO_CHANGE = ("output", "data.workers", "data.root")  # when a run is continued


def train(config: Config, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Train as ``config`` says and return the metrics of the last epoch.

    The folder ``config.output`` gets the resolved recipe (``config.yaml``), ``metrics.csv``,
    TensorBoard events, ``last.pth`` and ``best.pth``, ``results.json`` and a picture of
    detections.
    """
    run = Run(config, resume, overwrite)
    with run.progress:
        fit(
            run.train_epoch,
            run.evaluate,
            run.save,
            run.report,
            range(run.first_epoch, config.train.epochs + 1),
            run.best,
            config.train.eval_every,
        )
    return run.finish()


class Run:
    """The objects of one run and what is done with them after an epoch."""

    def __init__(self, config: Config, resume: bool, overwrite: bool) -> None:
        self.config = config
        self.folder = _run_folder(config, resume, overwrite)
        training = config.train
        self.train_set = wiring.training_set(config.data)
        self.classes = self.train_set.classes
        self.val_set = wiring.validation_set(config.data, self.classes)
        if not self.train_set.annotations or not self.val_set.annotations:
            raise ConfigError("data.train and data.val must name at least one image each")
        self.builder = wiring.builder_arguments(config.model, self.classes)
        set_seed(training.seed)
        self.model = wiring.detector(config, self.builder)
        if training.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.train_set.transform = wiring.augmentation(config.data.augment, self.model)

        self.accelerator = _accelerator(training.mixed_precision, self.folder)
        loader = _loader(self.train_set, training.batch_size, config.data.workers, train=True)
        self.val_loader = _loader(self.val_set, training.batch_size, config.data.workers)
        optimizer = make_optimizer(
            self.model, training.optimizer, training.lr, training.weight_decay, training.momentum
        )
        schedule = _schedule(training, optimizer, len(loader))
        self.prepared, self.optimizer, self.loader, self.schedule = self.accelerator.prepare(
            self.model, optimizer, loader, schedule
        )
        self.first_epoch, self.best = self._continue() if resume else (1, float("-inf"))
        _write_config(self.folder, config)
        self.accelerator.init_trackers("tensorboard")
        self.records = RunRecords(self.folder, self.accelerator, self.first_epoch)
        images = len(loader) * min(training.batch_size, len(self.train_set))
        self.progress = tqdm(
            total=training.epochs * images,
            initial=(self.first_epoch - 1) * images,
            unit="image",
            dynamic_ncols=True,
            # A log file gets a line now and then, a terminal a bar that moves.
            mininterval=0.5 if sys.stderr.isatty() else 60,
        )

    def train_epoch(self) -> dict[str, float]:
        return train_epoch(
            self.prepared,
            self.loader,
            self.optimizer,
            self.schedule,
            self.accelerator,
            self.progress,
            self.config.train.clip_grad_norm,
        )

    def evaluate(self) -> dict[str, Any]:
        # In float32, on the model itself: boxes decoded in bfloat16 are off by pixels.
        self.detections = detect(self.model, self.val_loader, self.accelerator.device)
        self.metrics = evaluate_detections(self.val_set.annotations, self.detections, self.classes)
        return self.metrics

    def save(self, name: str, epoch: int, best: float) -> None:
        save_checkpoint(
            self.folder / f"{name}.pth",
            model=self.model.state_dict(),
            builder=self.builder,
            classes=self.classes,
            config=dataclasses.asdict(self.config),
            optimizer=self.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            scaler=self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            rng={"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
            epoch=epoch,
            best=best,
        )

    def report(
        self, epoch: int, losses: dict[str, float], metrics: Mapping[str, Any], seconds: float
    ) -> None:
        found = {k: v for k, v in metrics.items() if isinstance(v, float)}
        numbers = {"lr": self.schedule.get_last_lr()[0], "seconds": seconds}
        self.records.add(epoch, numbers | {f"train/{k}": v for k, v in losses.items()} | found)
        shown = "".join(f"  {k} {found[k]:.3f}" for k in ("AP", "AP50") if k in found)
        line = f"epoch {epoch}/{self.config.train.epochs}  {describe_losses(losses)}{shown}"
        self.progress.write(f"{line}  {seconds:.1f} s")

    def finish(self) -> dict[str, Any]:
        """Write the results and the picture, print the table, return the metrics."""
        if self.first_epoch > self.config.train.epochs:
            self.evaluate()  # a finished run that was asked to continue
        self.accelerator.end_training()
        (self.folder / "results.json").write_text(metrics_json(self.metrics))
        picture = _picture(self.val_set, self.detections)
        Image.fromarray(picture).save(self.folder / "detections.png")
        print(results_table(self.metrics, self.classes))
        print(f"run folder: {self.folder}")
        return self.metrics

    def _continue(self) -> tuple[int, float]:
        checkpoint = load_checkpoint(self.folder / "last.pth")
        _check_same_recipe(self.config, config_from_dict(checkpoint["config"]))
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.schedule.load_state_dict(checkpoint["schedule"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(checkpoint["scaler"])
        torch.set_rng_state(checkpoint["rng"]["cpu"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(checkpoint["rng"]["cuda"])
        return checkpoint["epoch"] + 1, checkpoint["best"]


def _run_folder(config: Config, resume: bool, overwrite: bool) -> Path:
    folder = Path(config.output or "runs/detcenter")
    holds_run = (folder / "last.pth").exists()
    if resume and not holds_run:
        raise ConfigError(f"--resume: {folder} holds no last.pth; leave --resume out to start")
    if holds_run and not (resume or overwrite):
        raise ConfigError(
            f"{folder} holds a run already: --resume continues it, --output names another "
            "folder, --overwrite deletes it"
        )
    if holds_run and overwrite and not resume:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _accelerator(mixed_precision: str, folder: Path) -> Accelerator:
    try:
        accelerator = Accelerator(
            mixed_precision=mixed_precision, log_with="tensorboard", project_dir=str(folder)
        )
    except ValueError as error:  # a precision that this device does not have
        raise ConfigError(f"train.mixed_precision {mixed_precision}: {error}") from error
    if accelerator.num_processes > 1:
        raise ConfigError("several processes are not supported yet; start a single one")
    return accelerator


def _loader(
    dataset: DetectionDataset, batch_size: int, workers: int, train: bool = False
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size,
        shuffle=train,
        # A last batch of one image would spoil the statistics of batch norm.
        drop_last=train and len(dataset) >= batch_size,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )


def _schedule(training: TrainConfig, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    return make_schedule(
        optimizer,
        training.schedule,
        training.epochs * steps,
        training.warmup_steps,
        [milestone * steps for milestone in training.milestones],
        training.gamma,
    )


def _check_same_recipe(config: Config, earlier: Config) -> None:
    for key, new, old in differences(config, earlier):
        if key not in _FREE_TO_CHANGE:
            raise ConfigError(
                f"--resume: {key} is {new!r}, but the run was started with {old!r}; "
                "give the same value, or start another run with --output"
            )


def _write_config(folder: Path, config: Config) -> None:
    text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
    (folder / "config.yaml").write_text(text)


def _picture(dataset: DetectionDataset, detections: list[dict[str, Any]]) -> np.ndarray:
    shown = range(min(_PICTURED, len(dataset)))
    annotations = [dataset.annotations[i] for i in shown]
    images = [read_image(annotation["path"]) for annotation in annotations]
    return side_by_side(images, annotations, [detections[i] for i in shown], dataset.classes)
