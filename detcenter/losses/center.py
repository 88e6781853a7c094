"""Center loss (Wen, Zhang, Li and Qiao, "A Discriminative Feature Learning Approach for Deep Face
Recognition", ECCV 2016)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcenter.losses.processes import process_count, sum_over_processes


class CenterLoss(nn.Module):
    r"""Half the mean squared distance of features to the center of their class.

    For P features :math:`x_i` with labels :math:`y_i` and centers :math:`c_j`::

        loss      L = 1/(2P) * sum_i |x_i - c_{y_i}|^2                               (eq. 2)
        gradient  dL/dx_i = (x_i - c_{y_i}) / P                                      (eq. 3)
        centers   c_j <- c_j - alpha * sum_{i: y_i = j} (c_j - x_i) / (1 + n_j)      (eq. 4)

    with n_j the number of i with y_i = j. Equation 2 is divided by P, as in the authors' Caffe
    layer; the update of the centers is not, and it does not depend on any loss weight.

    The centers are a float32 buffer that starts at zero and moves in training mode only, under
    ``no_grad``, after the loss was taken: no optimizer, weight decay, gradient clipping or loss
    scaler ever sees them. A class that is absent from the batch does not move.

    Of several processes (torch.distributed) all take part in every training call: P, the sums and
    the n_j are those of all together, so that the centers are everywhere the same, and what
    the processes return averages to the loss of the joined batch, in value and in gradient, as
    DistributedDataParallel averages. Over several passes before one step of the optimizer,
    :func:`held_centers` lets the sums add up.

    Args:
        num_classes: number of classes with the background, which is class 0 and has no center
            (row 0 of ``centers`` stays zero).
        feature_dim: D, the width of a feature.
        alpha: the step of the centers, in 0..1; the paper's is 0.5.
        normalize: put features and centers on the unit sphere first, so that the loss lies in
            0..2 and one weight means the same whatever the detector's feature scale is. The
            default, False, is the paper's.

    Shapes:
        features [P, D] of any floating dtype, labels [P] of integers in 1..num_classes-1 → a
        scalar in float32 (float64 for float64 features). P may be 0: the loss is then a zero that
        still carries a graph. weights [P], not negative, make the mean and the sums of equation 4
        weighted ones (P and n_j become sums of weights); None is 1 for each.

    Raises:
        ValueError: for other shapes, and for labels outside 1..num_classes-1. On an accelerator
            labels are not waited for: such a batch is reported by one of the next calls, and its
            wrong labels move no center until then.

    Example:
        >>> center_loss = CenterLoss(num_classes=3, feature_dim=2)
        >>> features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
        >>> center_loss(features, torch.tensor([1, 1, 2]))
        tensor(2.3333)
        >>> center_loss.centers[1:]
        tensor([[0.6667, 0.0000],
                [0.0000, 0.5000]])
    """

    centers: Tensor

    def __init__(
        self, num_classes: int, feature_dim: int, alpha: float = 0.5, normalize: bool = False
    ) -> None:
        super().__init__()
        if num_classes < 2 or feature_dim < 1:
            raise ValueError(
                "CenterLoss needs a background and at least one class (num_classes >= 2) and "
                f"feature_dim >= 1, not num_classes={num_classes} and feature_dim={feature_dim}"
            )
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha, the step of the centers, lies in 0..1, not {alpha}")
        self.num_classes = num_classes
        self.feature_dim = feature_dim
        self.alpha = alpha
        self.normalize = normalize
        self.register_buffer("centers", torch.zeros(num_classes, feature_dim))
        self.held = False
        self._waiting: Tensor | None = None  # the sums and counts of passes so far, [C, D + 1]
        self._labels_in_flight: tuple[Tensor, torch.Event] | None = None

    def forward(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        self._check_shapes(features, labels, weights)
        labels = self._checked_labels(labels)
        # A squared sum over 1024 dimensions overflows float16, so autocast stays outside.
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, self.centers.dtype))
            if self.normalize:
                features = F.normalize(features, dim=1)
            # Never |x|^2 - 2xc + |c|^2: in float32 the expansion goes negative.
            difference = features - self.centers[labels]
            if weights is None:
                weights = torch.ones_like(labels, dtype=self.centers.dtype)
            weights = weights.to(features.dtype)
            total, processes = weights.sum(), 1
            if self.training:
                sums = self._sums(difference.detach(), labels, weights)
                total, processes = sums[:, -1].sum(), process_count()
                self._move_centers(sums)
            # A sum of weights may be below 1; without any, 0 over 1.
            total = total.where(total > 0, 1.0) / processes
            return (difference.square().sum(1) * weights).sum() / total / 2

    @torch.no_grad()
    def _sums(self, difference: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """By class, over all processes: the sum of x_i - c_{y_i} and, last, n_j; [C, D + 1]."""
        rows = torch.cat([difference * weights.unsqueeze(1), weights.unsqueeze(1)], 1)
        rows = rows.to(self.centers.dtype)
        sums = rows.new_zeros(self.num_classes, rows.shape[1]).index_add_(0, labels, rows)
        return sum_over_processes(sums)

    @torch.no_grad()
    def _move_centers(self, sums: Tensor) -> None:
        """Equation 4, once for all passes that were held."""
        if self._waiting is not None:
            sums = sums + self._waiting
        self._waiting = sums if self.held else None
        if self.held:
            return
        steps, counts = sums[:, :-1], sums[:, -1]
        steps[0] = 0
        self.centers += self.alpha * steps / (1 + counts).unsqueeze(1)
        if self.normalize:
            # A class not seen yet stays at zero; the others go back to the sphere. Rows that did
            # not move are left alone, so that rounding cannot make an absent class drift.
            moved = (counts > 0).unsqueeze(1)
            self.centers.copy_(torch.where(moved, F.normalize(self.centers, dim=1), self.centers))

    def _check_shapes(self, features: Tensor, labels: Tensor, weights: Tensor | None) -> None:
        if features.shape != (len(labels), self.feature_dim) or labels.dim() != 1:
            raise ValueError(
                f"CenterLoss takes features [P, {self.feature_dim}] and labels [P], not "
                f"{list(features.shape)} and {list(labels.shape)}"
            )
        if weights is not None and weights.shape != labels.shape:
            raise ValueError(
                f"weights {list(weights.shape)} are not one for each of {len(labels)} features"
            )

    def _checked_labels(self, labels: Tensor) -> Tensor:
        """``labels`` with those out of range set to 0, the row that never moves."""
        valid = (labels >= 1) & (labels < self.num_classes)
        if labels.device.type == "cpu":
            if not valid.all():
                self._raise_for_labels(f"{labels.min()}..{labels.max()}")
            return labels
        self._report_earlier_labels()
        if self._labels_in_flight is None:
            copy = valid.all().to("cpu", non_blocking=True)
            event = torch.Event(labels.device)
            event.record()
            self._labels_in_flight = copy, event
        return labels.where(valid, 0)

    def _report_earlier_labels(self) -> None:
        """Read the verdict on an earlier batch if it has arrived, without waiting for it."""
        if self._labels_in_flight is not None and self._labels_in_flight[1].query():
            all_valid = bool(self._labels_in_flight[0])
            self._labels_in_flight = None
            if not all_valid:
                self._raise_for_labels("values outside of it in an earlier batch")

    def _raise_for_labels(self, found: str) -> None:
        raise ValueError(
            f"labels must lie in 1..{self.num_classes - 1} (0 is background and has no center), "
            f"found {found}; num_classes={self.num_classes} counts the background"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "CenterLoss":
        """Centers follow the module to other devices, but not to a half precision."""
        exact = self.centers
        super()._apply(fn, recurse)
        if self.centers.dtype in (torch.float16, torch.bfloat16):
            self.centers = exact.to(self.centers.device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        # An event belongs to its device and process: a copy or a pickle starts without one.
        return self.__dict__ | {"_labels_in_flight": None}

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_classes}, feature_dim={self.feature_dim}, "
            f"alpha={self.alpha}, normalize={self.normalize}"
        )


@contextmanager
def held_centers(model: nn.Module, hold: bool = True) -> Iterator[None]:
    """Inside, training passes of ``model`` only add to what will move the centers.

    For every pass but the last before a step of the optimizer (gradient accumulation): the next
    pass outside moves the centers once, by the sums and counts of all of them. Ramps count that
    as one step. ``hold=False`` changes nothing, so that a loop need not branch.
    """
    modules: list[Any] = [m for m in model.modules() if hasattr(m, "held")] if hold else []
    for module in modules:
        module.held = True
    try:
        yield
    finally:
        for module in modules:
            module.held = False
