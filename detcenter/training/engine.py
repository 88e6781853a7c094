"""One step of training: sum the dict of losses, step; and detections of a whole data set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detcenter.errors import PersonsError
from detcenter.losses import Processes, held_centers
from detcenter.training.arrival import on_the_way
from detcenter.training.transport import Batch, PackedBatch, as_floats, on_device


class TrainingError(PersonsError, RuntimeError):
    """A run that cannot go on."""


class OverflowedStep(Exception):
    """A step that the loss scaler of float16 passed over; it takes a smaller scale then."""


class NotFiniteError(TrainingError):
    """A loss that is not finite."""

    def __init__(self, losses: Mapping[str, float], image_ids: Sequence[Any]) -> None:
        values = ", ".join(f"{name} {value:.3g}" for name, value in losses.items())
        super().__init__(f"the loss is not finite: {values}; images {list(image_ids)}")
        self.losses = dict(losses)
        """by name, as they were"""
        self.image_ids = list(image_ids)
        """of the targets of the pass"""


def train_step(
    model: nn.Module,
    passes: Sequence[Batch | PackedBatch],
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    clip_grad_norm: float | None = None,
    weigh: Callable[[], Tensor | float] | None = None,
) -> dict[str, Tensor]:
    """One step of ``optimizer`` on the mean of the passes' losses; returns those means by name.

    They are on the CPU: but for what the model does, a step waits for the device once, for these.
    Of several processes they are the means over all. What the passes of a step that fails did to
    the model's buffers stays, unless this is called in :func:`taken_back`.

    Args:
        model: in training mode on the accelerator's device, in DistributedDataParallel if there
            are several processes. Centers move once.
        passes: the batches, lists of images [3, H, W] and of targets as torchvision's detectors
            take them, or what `collate` made of them.
        optimizer: prepared by ``accelerator``.
        weigh: called after every pass, what it counts among the others; None is the same for all.

    Raises:
        NotFiniteError: if a loss is not finite, in any of the processes. The weights, and all
            that the optimizer knows, are then what they were; gradients are cleared.
        OverflowedStep: if the loss scaler passed over the step, likewise.
    """
    done = []
    for number, batch in enumerate(passes, start=1):
        with _adding_up(model, number < len(passes)):
            loss, values = _forward(model, batch, accelerator, weigh if len(passes) > 1 else None)
            accelerator.backward(loss)
        done.append(values)
    # Looked at now, when the device has the gradients to compute.
    try:
        means, weights = zip(*(values.finite() for values in done), strict=True)
    except NotFiniteError:
        optimizer.zero_grad()
        raise
    whole = sum(weights) or 1.0
    if len(passes) > 1:
        torch._foreach_div_([p.grad for p in model.parameters() if p.grad is not None], whole)
    if clip_grad_norm is not None:
        accelerator.clip_grad_norm_(model.parameters(), clip_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    if getattr(optimizer, "step_was_skipped", False):
        raise OverflowedStep
    parts = [weight * mean for weight, mean in zip(weights, means, strict=True)]
    return dict(zip(done[0].names, torch.stack(parts).sum(0) / whole, strict=True))


class _Values(NamedTuple):
    """The values of the L losses of a pass, on their way to the CPU."""

    names: list[str]
    image_ids: list[Any]
    arrive: Callable[[], list[Tensor]]
    """in this process [L], means over all processes [L], and what the pass counts []"""

    def finite(self) -> tuple[Tensor, float]:
        """The means over the processes, and what the pass counts.

        Raises:
            NotFiniteError: if one is not finite: nan and infinity stay what they are in a sum.
        """
        mine, means, weight = self.arrive()
        if not means.isfinite().all():
            raise NotFiniteError(dict(zip(self.names, mine.tolist(), strict=True)), self.image_ids)
        return means, float(weight)


def _forward(
    model: nn.Module,
    batch: Batch | PackedBatch,
    accelerator: Accelerator,
    weigh: Callable[[], Tensor | float] | None,
) -> tuple[Tensor, _Values]:
    """The sum of the losses of a pass times what it counts, and the values of the losses."""
    images, targets = on_device(batch, accelerator.device)
    with accelerator.autocast():
        losses = model(images, targets)
    weight = 1.0 if weigh is None else weigh()
    mine = torch.stack([loss.detach() for loss in losses.values()])
    processes = Processes()
    means = processes.sum(mine) / processes.count()
    arrive = on_the_way([mine, means, torch.as_tensor(weight)])
    image_ids = [target.get("image_id") for target in targets]
    return sum(losses.values()) * weight, _Values(list(losses), image_ids, arrive)


@contextmanager
def _adding_up(model: nn.Module, more: bool) -> Iterator[None]:
    """Whether more passes follow before the step: gradients are then not exchanged yet."""
    wrapped = more and isinstance(model, DistributedDataParallel)
    with held_centers(model, more), cast(Any, model).no_sync() if wrapped else nullcontext():
        yield


@contextmanager
def taken_back(model: nn.Module) -> Iterator[None]:
    """If a step inside fails, ``model`` keeps nothing of it.

    Centers and what waits to move them, ramps, numbers of draws and the statistics of batch norm
    change with every pass, before a loss can be looked at.
    """
    before = [buffer.clone() for buffer in model.buffers()]
    plain = nn.Module.get_extra_state
    others = [m for m in model.modules() if type(m).get_extra_state is not plain]
    states = [(module, module.get_extra_state()) for module in others]
    try:
        yield
    except Exception:
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
        for module, state in states:
            module.set_extra_state(state)
        raise


@torch.inference_mode()
def detect(
    model: nn.Module,
    loader: Iterable[Batch | PackedBatch],
    device: torch.device,
    forward: Callable[[list[Tensor]], list[dict[str, Tensor]]] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Detections of one image of ``loader`` after the other, on the CPU.

    ``boxes``, ``scores`` and ``labels``, and what else ``forward`` gives of each, which is called
    with images in place of the model.

    Those of the background are left out: torchvision's RetinaNet and FCOS score it like any class,
    and a low ``score_thresh`` lets it through.
    """
    model.eval()
    for batch in loader:
        found = (forward or model)(as_floats(batch[0], device))
        copies = iter(on_the_way([x for of_image in found for x in of_image.values()])())
        for of_image in [{name: next(copies) for name in of_image} for of_image in found]:
            # Copies, or a few boxes would keep all that was copied with them.
            yield {name: x[of_image["labels"] > 0] for name, x in of_image.items()}


def describe_losses(losses: Mapping[str, float]) -> str:
    """By name, short enough for a terminal of 80 columns."""
    short = {"bbox_regression": "box", "classification": "class"}
    names = {name: short.get(name, name.removeprefix("loss_")) for name in losses}
    return " ".join(f"{names[name]} {value:.3g}" for name, value in losses.items())


class LossMeans:
    """Means of losses on the CPU, by name over steps, which a checkpoint can hold."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        self.steps += 1
        for name, loss in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + loss

    def means(self) -> dict[str, float]:
        return {name: float(total) / max(1, self.steps) for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sums = dict(state["sums"])
        self.steps = state["steps"]
