"""`detcenter train`: a recipe in, a run folder out."""

import dataclasses
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detcenter.commands.collapse import watched
from detcenter.commands.datasets import training_set, validation_set
from detcenter.commands.detectors import builder_arguments, detector
from detcenter.commands.passes import augmentation, detect_in
from detcenter.commands.run_folder import check_folder, clear_folder, clear_results
from detcenter.config import Config, TrainConfig, config_from_dict, differences
from detcenter.data import DetectionDataset
from detcenter.errors import ConfigError
from detcenter.evaluation import (
    evaluate_detections,
    metrics_json,
    results_table,
    save_detections,
    side_by_side,
)
from detcenter.models import initialize
from detcenter.training import (
    RunRecords,
    collate,
    describe_losses,
    load_checkpoint,
    make_optimizer,
    make_schedule,
    peak_memory_mib,
    rng_state,
    save_checkpoint,
    set_rng_state,
    train_epoch,
)

_PICTURED = 6  # validation images in the run's picture
_FREE_TO_CHANGE = ("output", "data.workers", "data.root")  # when a run is continued


def train(
    config: Config, folder: Path, resume: bool = False, overwrite: bool = False
) -> Mapping[str, Any]:
    """Train as ``config`` says and return the metrics of the last epoch.

    ``folder`` gets the resolved recipe (``config.yaml``), ``metrics.csv``, TensorBoard events,
    ``last.pth`` and ``best.pth``, ``results.json``, and the detections in the validation images,
    as numbers and as a picture.
    """
    run = Run(config, folder, resume, overwrite)
    with run.progress:
        for epoch in range(run.first_epoch, config.train.epochs + 1):
            run.epoch(epoch)
    return run.finish()


class Run:
    """The objects of one run, and what happens to them in an epoch."""

    def __init__(self, config: Config, folder: Path, resume: bool, overwrite: bool) -> None:
        check_folder(folder, resume, overwrite)
        self.config, self.folder = config, folder
        training = config.train
        self.train_set = training_set(config.data)
        self.classes = self.train_set.classes
        self.val_set = validation_set(config.data, self.classes)
        self.builder = builder_arguments(config.model, self.classes)
        self.accelerator = _accelerator(training.mixed_precision, folder)
        set_seed(training.seed)
        steps = max(1, len(self.train_set) // training.batch_size)  # as many as _loader gives
        self.model = detector(config, self.builder, steps).to(self.accelerator.device)
        if config.init_from is not None and not resume:
            print(f"from {config.init_from}:")
            print(initialize(self.model, config.init_from).table())
        if training.channels_last:
            self.model.to(memory_format=torch.channels_last)
        _check_batch(self.model, min(training.batch_size, len(self.train_set)))
        self.train_set.transform = augmentation(config.data.augment, self.model)

        loader = _loader(self.train_set, training.batch_size, config.data.workers)
        optimizer = make_optimizer(
            self.model,
            training.optimizer,
            training.lr,
            training.weight_decay,
            training.momentum,
            training.backbone_lr,
        )
        # The model itself stays as it is: prepared, it would run under autocast in evaluation too.
        self.optimizer, self.loader, self.schedule = self.accelerator.prepare(
            optimizer, loader, _schedule(training, optimizer, len(loader))
        )
        self.metrics: Mapping[str, Any] = {}
        self.detections: list[dict[str, Any]] = []
        self.first_epoch, self.best = self._continue() if resume else (1, -math.inf)
        self._open_folder(clear=overwrite and not resume)
        self.progress = self._progress()

    def epoch(self, epoch: int) -> None:
        """Train, evaluate if it is time to, save and report."""
        start = time.monotonic()
        self.progress.set_description_str(f"{epoch}/{self.config.train.epochs}", refresh=False)
        with watched(self.model, self.classes) as features:
            losses = train_epoch(
                self.model,
                self.loader,
                self.optimizer,
                self.schedule,
                self.accelerator,
                self.progress,
                self.config.train.clip_grad_norm,
            )
        step_seconds = (time.monotonic() - start) / len(self.loader)
        if epoch % self.config.train.eval_every == 0 or epoch == self.config.train.epochs:
            self.evaluate()
            # nan, of validation images without objects, counts as the worst
            ap = -1.0 if math.isnan(self.metrics["AP"]) else self.metrics["AP"]
            if ap > self.best:
                self.best = ap
                self._save("best", epoch)
        else:
            self.metrics = {}
        self._save("last", epoch)
        cost = {
            "seconds": time.monotonic() - start,
            "step_seconds": step_seconds,
            "memory_mib": peak_memory_mib(self.accelerator.device),
        }
        self._report(epoch, losses, features, cost)

    def evaluate(self) -> None:
        self.detections = detect_in(
            self.val_set, self.model, self.config.train.batch_size, self.config.data.workers
        )
        self.metrics = evaluate_detections(self.val_set.annotations, self.detections, self.classes)

    def finish(self) -> Mapping[str, Any]:
        """Write the results and the picture, print the table, return the metrics."""
        if not self.metrics:
            print(f"the run was complete after {self.first_epoch - 1} epochs; evaluating it again")
            self.evaluate()
        self.accelerator.end_training()
        save_detections(self.folder / "detections.npz", self.val_set.annotations, self.detections)
        picture = _picture(self.val_set, self.detections)
        Image.fromarray(picture).save(self.folder / "detections.png")
        # The last file: a run that has it is finished.
        (self.folder / "results.json").write_text(metrics_json(self.metrics))
        print(results_table(self.metrics, self.classes))
        print(f"run folder: {self.folder}")
        return self.metrics

    def _save(self, name: str, epoch: int) -> None:
        save_checkpoint(
            self.folder / f"{name}.pth",
            model=self.model.state_dict(),
            builder=self.builder,
            classes=self.classes,
            config=dataclasses.asdict(self.config),
            optimizer=self.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            scaler=self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            rng=rng_state(self.accelerator.device),
            epoch=epoch,
            best=self.best,
        )

    def _report(
        self,
        epoch: int,
        losses: dict[str, float],
        features: dict[str, float],
        cost: dict[str, float],
    ) -> None:
        found = {k: v for k, v in self.metrics.items() if isinstance(v, float)}
        numbers = {"lr": self.schedule.get_last_lr()[0]} | cost
        numbers |= {f"train/{k}": v for k, v in (losses | features).items()}
        self.records.add(epoch, numbers | found)
        shown = "".join(f"  {k} {found[k]:.3f}" for k in ("AP", "AP50") if k in found)
        line = f"epoch {epoch}/{self.config.train.epochs}  {describe_losses(losses)}{shown}"
        self.progress.write(f"{line}  {cost['seconds']:.1f} s")

    def _continue(self) -> tuple[int, float]:
        """Take up the state of the last epoch; returns the next epoch and the best AP so far."""
        checkpoint = load_checkpoint(self.folder / "last.pth")
        check_same_run(self.config, self.classes, checkpoint)
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.schedule.load_state_dict(checkpoint["schedule"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(checkpoint["scaler"])
        set_rng_state(checkpoint["rng"], self.accelerator.device)
        return checkpoint["epoch"] + 1, checkpoint["best"]

    def _open_folder(self, clear: bool) -> None:
        """From here on the folder is this run's; nothing was written or deleted before."""
        if clear:
            clear_folder(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        clear_results(self.folder)
        text = yaml.safe_dump(dataclasses.asdict(self.config), sort_keys=False)
        (self.folder / "config.yaml").write_text(text)
        self.accelerator.init_trackers("tensorboard")
        self.records = RunRecords(self.folder, self.accelerator, self.first_epoch)

    def _progress(self) -> Any:
        """A bar over all images of the run, so that the time left is the run's."""
        images = len(self.loader) * min(self.config.train.batch_size, len(self.train_set))
        return tqdm(
            total=self.config.train.epochs * images,
            initial=(self.first_epoch - 1) * images,
            unit="img",
            dynamic_ncols=True,
            leave=False,
            disable=not sys.stderr.isatty(),  # a log file gets the line of every epoch only
            bar_format="{desc} {percentage:3.0f}%|{bar:8}|{remaining} left {rate_fmt}{postfix}",
        )


def _accelerator(mixed_precision: str, folder: Path) -> Accelerator:
    try:
        accelerator = Accelerator(
            mixed_precision=mixed_precision, log_with="tensorboard", project_dir=str(folder)
        )
    except ValueError as error:  # a precision that this device does not have
        raise ConfigError(f"train.mixed_precision {mixed_precision}: {error}") from error
    if mixed_precision == "fp16" and accelerator.scaler is None:
        raise ConfigError("train.mixed_precision fp16 needs a GPU; bf16 runs on CPUs too")
    if accelerator.num_processes > 1:
        raise ConfigError("several processes are not supported yet; start a single one")
    return accelerator


def _check_batch(model: nn.Module, images: int) -> None:
    live = any(isinstance(m, nn.BatchNorm2d) and m.weight.requires_grad for m in model.modules())
    if images == 1 and live:
        raise ConfigError(
            "batch norm cannot learn from one image a step: set train.batch_size to 2 or more "
            "(and have as many training images), or model.frozen_batch_norm: true"
        )


def _loader(dataset: DetectionDataset, batch_size: int, workers: int) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        # A last batch of one image would spoil the statistics of batch norm.
        drop_last=len(dataset) >= batch_size,
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


def check_same_run(config: Config, classes: list[str], checkpoint: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose recipe or classes were others; the key is named."""
    check_same_recipe(config, config_from_dict(checkpoint["config"]))
    if checkpoint["classes"] != classes:
        raise ConfigError(
            f"the run was started with the classes {checkpoint['classes']}, "
            f"the data has {classes} now"
        )


def check_same_recipe(config: Config, other: Config) -> None:
    """Refuse to go on with the run of ``other``, unless it differs in what is free to change."""
    for key, new, old in differences(config, other):
        if key not in _FREE_TO_CHANGE:
            raise ConfigError(
                f"{key} is {new!r}, but the run was started with {old!r}; "
                "give the same value, or start another run with --output"
            )


def _picture(dataset: DetectionDataset, detections: list[dict[str, Any]]) -> np.ndarray:
    shown = range(min(_PICTURED, len(dataset)))
    annotations = [dataset.annotations[i] for i in shown]
    images = [dataset.image(i) for i in shown]
    return side_by_side(images, annotations, [detections[i] for i in shown], dataset.classes)
