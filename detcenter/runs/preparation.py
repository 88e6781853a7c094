"""From a recipe to what a training needs on this machine: device, batches, model, schedule."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from detcenter.data import DetectionDataset, fitting
from detcenter.errors import ConfigError
from detcenter.machine import computes_bf16
from detcenter.models import family_of, initialize, set_gradient_checkpointing
from detcenter.recipe.config import Config, TrainConfig
from detcenter.recipe.detectors import detector
from detcenter.training import (
    EpochBatches,
    averaged,
    collate,
    ignore_stops,
    make_optimizer,
    make_schedule,
)

logger = logging.getLogger("detcenter")


def accelerator_for(mixed_precision: str, folder: Path) -> Accelerator:
    # Several processes on CPUs are several to accelerate only if it is told that they are CPUs.
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.accelerator.is_available()
    cpu = several or parse_flag_from_env("ACCELERATE_USE_CPU")  # by which --device cpu says so
    try:
        state = PartialState(cpu=cpu)
        if mixed_precision == "bf16" and not computes_bf16(state.device):
            mixed_precision = _instead_of_emulated_bf16(state)
        accelerator = Accelerator(
            mixed_precision=mixed_precision,
            cpu=cpu,
            project_dir=str(folder),
        )
    except ValueError as error:  # a precision that this device does not have
        raise ConfigError(f"train.mixed_precision {mixed_precision}: {error}") from error
    if mixed_precision == "fp16" and accelerator.scaler is None:
        raise ConfigError("train.mixed_precision fp16 needs a GPU; bf16 runs on CPUs too")
    return accelerator


def _instead_of_emulated_bf16(state: PartialState) -> str:
    """None on a CPU. On a GPU bf16 all the same, as it saves memory. Says so."""
    if state.device.type == "cpu":
        precision, said = "no", "CPU: the training computes in float32, which is faster here"
    else:
        precision, said = "bf16", "GPU: --train.mixed_precision fp16 may be faster"
    if state.is_main_process:
        logger.warning("train.mixed_precision: torch would only emulate bf16 on this %s", said)
    return precision


def batches_for(images: int, training: TrainConfig, accelerator: Accelerator) -> EpochBatches:
    try:
        return EpochBatches(
            images,
            training.batch_size,
            training.seed,
            passes=training.accumulate,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
    except ValueError as error:
        raise ConfigError(f"data.train: {error} (train.accumulate x processes)") from None


def keep_decoded(datasets: Sequence[DetectionDataset], folder: Path, say: bool) -> None:
    """Have images decoded once, as many as there is room for in ``folder``.

    Args:
        datasets: with the transforms that they are read with.
        say: whether to warn if that is not all of them.
    """
    sizes = [dataset.decoding(i) for dataset in datasets for i in range(len(dataset))]
    chosen, taken, needed = fitting(folder, sizes)
    for dataset in datasets:
        dataset.keep(folder, chosen)
    if say and taken < needed:
        logger.warning(
            "data.cache: decoded, all images take %.1f GB, and half of the free memory is %.1f GB: "
            "%d of %d are kept, the others decoded every time",
            *(needed / 1e9, taken / 1e9, len(chosen), len(dict(sizes))),
        )


def loader_for(
    dataset: DetectionDataset, batches: EpochBatches, workers: int, device: torch.device
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        worker_init_fn=ignore_stops,
        # One of its own, or every epoch would draw from the generator that the model draws from.
        generator=torch.Generator(),
    )


def model_for(
    config: Config,
    builder: dict[str, Any],
    batches: EpochBatches,
    device: torch.device,
    fresh: bool,
) -> nn.Module:
    """The detector on its device; ``fresh`` ones start from ``init_from``."""
    model = detector(config, builder, batches.steps)
    if config.init_from is not None and fresh:
        print(f"from {config.init_from}:")
        print(initialize(model, config.init_from).table())
    training = config.train
    if training.gradient_checkpointing:
        if training.compile:
            raise ConfigError(
                "train.gradient_checkpointing and train.compile do not go together: compiled, a "
                "stage cannot be computed twice; choose one"
            )
        try:
            set_gradient_checkpointing(model)
        except ValueError as error:
            raise ConfigError(f"train.gradient_checkpointing: {error}") from None
    if training.sync_batch_norm:
        if device.type != "cuda":
            raise ConfigError("train.sync_batch_norm is for several GPUs; torch has it for no CPU")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.to(device)
    if training.channels_last:
        model.to(memory_format=torch.channels_last)
    _check_batch(model, batches)
    return model


def compile_in_place(model: Any) -> None:
    """Compile what does the work: matching and sampling depend on the data, and stay as they are.

    Copies of the model are not compiled; no key of a checkpoint changes.
    """
    for part in (model.backbone, *family_of(model).heads(model)):
        part.compile()


def parallel(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """What a step calls: of several processes a wrapper of ``model`` that exchanges gradients."""
    if accelerator.num_processes == 1:
        return model
    devices = [accelerator.device] if accelerator.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def optimizer_for(model: nn.Module, training: TrainConfig) -> torch.optim.Optimizer:
    return make_optimizer(
        model,
        training.optimizer,
        training.lr,
        training.weight_decay,
        training.momentum,
        training.backbone_lr_factor,
    )


def average_for(model: nn.Module, training: TrainConfig) -> AveragedModel | None:
    try:
        return None if training.ema is None else averaged(model, training.ema)
    except ValueError as error:
        raise ConfigError(f"train.ema: {error}") from None


def schedule_for(training: TrainConfig, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    """Over optimizer steps, ``steps`` an epoch."""
    total = training.epochs * steps
    if training.warmup_steps >= total:
        logger.warning(
            "train.warmup_steps is %d, but the training has %d steps: it ends before its rate is "
            "train.lr",
            *(training.warmup_steps, total),
        )
    return make_schedule(
        optimizer,
        training.schedule,
        total,
        training.warmup_steps,
        [milestone * steps for milestone in training.milestones],
        training.gamma,
    )


def _check_batch(model: nn.Module, batches: EpochBatches) -> None:
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]
    smallest = batches.images_a_step // (batches.passes * batches.processes)
    if smallest == 1 and any(m.weight.requires_grad for m in norms):
        raise ConfigError(
            "batch norm cannot learn from one image a step: set train.batch_size to 2 or more "
            "(and have as many training images), or model.frozen_batch_norm: true"
        )
