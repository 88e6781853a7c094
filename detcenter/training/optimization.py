"""Optimizers and learning-rate schedules of the published detection recipes."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


def make_optimizer(
    model: nn.Module,
    name: Literal["sgd", "adamw"],
    lr: float,
    weight_decay: float,
    momentum: float = 0.9,
    backbone_lr_factor: float = 1.0,
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over the parameters that are trained.

    Scales and shifts of norms and all biases are not decayed under AdamW; under SGD everything is,
    as in the published recipes. The backbone, without a feature pyramid on it, is trained at
    ``backbone_lr_factor`` x ``lr``: pretrained layers want less than new ones.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            of_backbone = key.startswith("backbone.") and ".fpn." not in key
            pretrained = backbone_lr_factor != 1 and of_backbone
            decayed = name == "sgd" or parameter.dim() > 1
            groups.setdefault((pretrained, decayed), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": lr * (backbone_lr_factor if pretrained else 1),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (pretrained, decayed), parameters in groups.items()
    ]
    if name == "sgd":
        return torch.optim.SGD(settings, lr, momentum=momentum)
    return torch.optim.AdamW(settings, lr)


def make_schedule(
    optimizer: torch.optim.Optimizer,
    name: Literal["multistep", "cosine"],
    total_steps: int,
    warmup_steps: int,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> LambdaLR:
    """A schedule to be stepped after every optimizer step.

    The rate rises linearly from a thousandth over ``warmup_steps``; then it is multiplied with
    ``gamma`` at every step of ``milestones``, or falls along half a cosine to zero.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return 0.001 + 0.999 * step / warmup_steps
        if name == "multistep":
            return gamma ** sum(step >= milestone for milestone in milestones)
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, factor)
