"""Center loss (Wen, Zhang, Li and Qiao, "A Discriminative Feature Learning Approach for Deep Face
Recognition", ECCV 2016)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from detcenter.losses.precision import unless_halved
from detcenter.losses.processes import Group, Processes
from detcenter.losses.steps import Holding, in_training


class CenterLoss(Holding):
    r"""Half the mean squared distance of features to the center of their class.

    For P features :math:`x_i` with labels :math:`y_i` and centers :math:`c_j`::

        loss      L = 1/(2P) * sum_i |x_i - c_{y_i}|^2                               (eq. 2)
        gradient  dL/dx_i = (x_i - c_{y_i}) / P                                      (eq. 3)
        centers   c_j <- c_j - alpha * sum_{i: y_i = j} (c_j - x_i) / (1 + n_j)      (eq. 4)

    with n_j the number of i with y_i = j. Equation 2 is divided by P, as in the authors' Caffe
    layer; the update of the centers is not, and it does not depend on any loss weight.

    The centers are a float32 buffer (float64 in a float64 model) that starts at zero and moves
    under ``no_grad``, after the loss was taken: no optimizer, weight decay, gradient clipping or
    loss scaler ever sees them. They move in training alone (in training mode, with gradients
    enabled), by the rows that are finite. A class that is absent from the batch does not move.
    Over several passes before one step of the optimizer, :func:`held_centers` lets the sums add
    up.

    Of several processes (torch.distributed) all take part in every training call: P, the sums and
    the n_j are those of all together, so that the centers are everywhere the same, and what
    the processes return averages to the loss of the joined batch, in value and in gradient, as
    DistributedDataParallel averages.

    Args:
        num_classes: number of classes with the background, which is class 0 and has no center
            (row 0 of ``centers`` stays zero). None, like ``feature_dim``, for a loss that is given
            to :func:`detcenter.attach`, which sizes it for the model.
        feature_dim: D, the width of a feature.
        alpha: the step of the centers, in 0..1; the paper's is 0.5.
        normalize: L2-normalise features and centers first, so that the loss lies in 0..2,
            whatever the scale of the features. False is the paper's loss, which on a detector's
            raw features is tens to hundreds.
        process_group: of torch.distributed, the processes that train this loss together; None is
            all of the job. Two models that are trained in one job, each by some of its processes,
            need a group each.

    Shapes:
        features [P, D] of any floating dtype, labels [P] of integers in 1..num_classes-1 → a
        scalar in float32 (float64 for float64 features). P may be 0: the loss is then 0, and
        ``backward()`` works. weights [P], not negative, make the mean and the sums of equation 4
        weighted ones (P and n_j become sums of weights); None is 1 for each.

    Raises:
        ValueError: for other shapes, for a loss without sizes, and for labels outside
            1..num_classes-1. On CUDA, where looking at labels would wait for the device, these fail
            an assertion on it, as they do in ``F.cross_entropy``.

    Example:
        >>> center_loss = CenterLoss(num_classes=3, feature_dim=2, normalize=False)
        >>> features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
        >>> center_loss(features, torch.tensor([1, 1, 2]))
        tensor(2.3333)
        >>> center_loss.centers[1:]
        tensor([[0.6667, 0.0000],
                [0.0000, 0.5000]])
    """

    centers: Tensor
    waiting: Tensor
    """what passes since the last step have added: by class the sums of x_i - c_{y_i}, last n_j"""

    def __init__(
        self,
        num_classes: int | None = None,
        feature_dim: int | None = None,
        alpha: float = 0.5,
        normalize: bool = True,
        process_group: Group | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha, the step of the centers, lies in 0..1, not {alpha}")
        self.num_classes, self.feature_dim = num_classes, feature_dim
        self.alpha = alpha
        self.normalize = normalize
        self.processes = Processes(process_group)
        self.register_buffer("centers", torch.zeros(0, 0, dtype=torch.float32))
        self.register_buffer("waiting", torch.zeros_like(self.centers), persistent=False)
        if (num_classes, feature_dim) != (None, None):
            self.size(num_classes or 0, feature_dim or 0)

    def size(self, num_classes: int, feature_dim: int) -> None:
        """Make the centers, all zero, for features of ``feature_dim`` dimensions.

        Raises:
            ValueError: for less than a background and one class, or no dimension.
        """
        if num_classes < 2 or feature_dim < 1:
            raise ValueError(
                "CenterLoss needs a background and at least one class (num_classes >= 2) and "
                f"feature_dim >= 1, not num_classes={num_classes} and feature_dim={feature_dim}"
            )
        self.num_classes, self.feature_dim = num_classes, feature_dim
        self.centers = self.centers.new_zeros(num_classes, feature_dim)
        self.waiting = self.centers.new_zeros(num_classes, feature_dim + 1)

    def fit(self, num_classes: int, feature_dim: int, process_group: Group | None = None) -> None:
        """Take sizes and group from the model that this is attached to, where it has none."""
        if self.num_classes is None:
            self.size(num_classes, feature_dim)
        if self.processes.group is None:
            self.processes = Processes(process_group)

    def forward(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        self._check_shapes(features, labels, weights)
        labels = labels.long()  # bytes would index as a mask
        self._check_labels(labels)
        # A squared sum over 1024 dimensions overflows float16, so autocast stays outside.
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, self.centers.dtype))
            if self.normalize:
                features = F.normalize(features, dim=1)
            # Never |x|^2 - 2xc + |c|^2: in float32 the expansion goes negative.
            difference = features - self.centers[labels]
            squares = difference.square()
            total: Tensor | float = len(labels)
            if weights is None:
                squares = squares.sum()
            else:
                weights = weights.to(features.dtype)
                total, squares = weights.sum(), (squares.sum(1) * weights).sum()
            if in_training(self):
                total = self._follow(difference.detach(), labels, weights, total)
            # A sum of weights may be below 1; without any, 0 over 1.
            some = total.where(total > 0, 1.0) if torch.is_tensor(total) else total or 1.0
            return squares / (2 * some)

    @torch.no_grad()
    def _follow(
        self, difference: Tensor, labels: Tensor, weights: Tensor | None, total: Tensor | float
    ) -> Tensor | float:
        """Let the centers follow; returns what this process divides by, in place of ``total``."""
        processes = self.processes.count()
        sums = torch.zeros_like(self.waiting) if processes > 1 else self.waiting
        rows = difference if weights is None else difference * weights.unsqueeze(1)
        rows = rows.to(sums.dtype)
        finite = _finite(rows)
        counts = finite.to(sums.dtype) if weights is None else weights.where(finite, 0.0)
        sums[:, :-1].index_add_(0, labels, rows.where(finite.unsqueeze(1), 0.0))
        sums[:, -1].index_add_(0, labels, counts.to(sums.dtype))
        if processes > 1:
            sums = self.processes.sum(sums)
            total = sums[:, -1].sum() / processes
            self.waiting += sums
        if not self.held:
            self._move_centers()
        return total

    def _move_centers(self) -> None:
        """Equation 4, once for all passes that were held."""
        steps, counts = self.waiting[:, :-1], self.waiting[:, -1:]
        steps = steps.where(_finite(steps).unsqueeze(1), 0.0)  # finite rows may overflow
        self.centers.addcdiv_(steps, 1 + counts, value=self.alpha)
        if self.normalize:
            # A class not seen yet stays at zero; the others go back to the sphere. Rows that did
            # not move are left alone, so that rounding cannot make an absent class drift.
            norms = torch.linalg.vector_norm(self.centers, dim=1, keepdim=True).clamp_(min=1e-12)
            self.centers /= norms.masked_fill_(counts == 0, 1.0)
        self.let_go()

    def let_go(self) -> None:
        self.waiting.zero_()

    def _check_shapes(self, features: Tensor, labels: Tensor, weights: Tensor | None) -> None:
        if self.num_classes is None:
            raise ValueError(
                "this CenterLoss has no sizes: CenterLoss(num_classes, feature_dim), or attach it "
                "to a model, which sizes it"
            )
        if features.shape != (len(labels), self.feature_dim) or labels.dim() != 1:
            raise ValueError(
                f"CenterLoss takes features [P, {self.feature_dim}] and labels [P], not "
                f"{list(features.shape)} and {list(labels.shape)}"
            )
        if weights is not None and weights.shape != labels.shape:
            raise ValueError(
                f"weights {list(weights.shape)} are not one for each of {len(labels)} features"
            )

    def _check_labels(self, labels: Tensor) -> None:
        num_classes = len(self.centers)
        valid = (labels == labels.clamp(1, num_classes - 1)).all()
        rule = f"labels must lie in 1..{num_classes - 1} (0 is background and has no center)"
        if labels.is_cuda:
            torch._assert_async(valid, rule)  # where bool(valid) would wait
        elif not valid:
            raise ValueError(
                f"{rule}, found {labels.min()}..{labels.max()}; num_classes={num_classes} counts "
                "the background"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "CenterLoss":
        """Centers follow the module to other devices, but not to a half precision."""
        super()._apply(unless_halved(fn), recurse)
        return self

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_classes}, feature_dim={self.feature_dim}, "
            f"alpha={self.alpha}, normalize={self.normalize}"
        )


def _finite(rows: Tensor) -> Tensor:
    """Which of [P, D] have finite numbers only, by one look at each."""
    return torch.linalg.vector_norm(rows, torch.inf, dim=1) < torch.inf
