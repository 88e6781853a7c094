"""Scores of boxes that grow the less a box looks like what a detector was taught."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcenter.batched.lent import exporting
from detcenter.class_centers import class_centers

By = Literal["centers", "mahalanobis", "neighbours", "softmax", "logit", "energy"]
WAYS: tuple[By, ...] = get_args(By)

_KEPT = 20_000  # features at most that neighbours are looked for among


class UnknownScorer(nn.Module):
    r"""Scores boxes: the higher, the less a box looks like any class that was taught.

    Fitted with :meth:`fit` after training; called with the features and the class logits of boxes,
    as :func:`detcenter.box_features` and :func:`detcenter.box_logits` give them. Let :math:`z_c` be
    the logits of the classes (:math:`z_0` is "none"), :math:`f` the feature, :math:`u = f / |f|`.

    ===============  ==========================================================================
    ``by``           score
    ===============  ==========================================================================
    ``centers``      :math:`\min_c |u - m_c| / s_c`: the distance to the nearest class center.
                     :math:`m_c` is the mean of the class's :math:`u`, and :math:`s_c^2` the mean
                     square of their own distances to it, which leans on that of all classes as if
                     five boxes had it.
    ``mahalanobis``  :math:`\min_c (f - \mu_c)^T \Sigma^{-1} (f - \mu_c)`, one covariance for all
                     classes (Lee et al., NeurIPS 2018, eq. 2), shrunk as Ledoit and Wolf (2004)
                     have it, so that few boxes do.
    ``neighbours``   the distance of :math:`u` to the k-th nearest of the fitted boxes' (Sun et
                     al., ICML 2022)
    ``softmax``      :math:`1 - \max_{c \ge 1} p_c`, of the softmax of all logits (Hendrycks and
                     Gimpel, ICLR 2017)
    ``logit``        :math:`-\max_{c \ge 1} z_c` (Hendrycks et al., ICML 2022)
    ``energy``       :math:`-\log \sum_{c \ge 1} e^{z_c}` (Liu et al., NeurIPS 2020)
    ===============  ==========================================================================

    Args:
        by: one of :data:`WAYS`.
        fitted: what :meth:`fit` has found, tensors by name.
        threshold: a box of a higher score is unknown.
    """

    threshold: Tensor

    def __init__(self, by: By, fitted: Mapping[str, Tensor], threshold: float) -> None:
        super().__init__()
        if by not in WAYS:
            raise ValueError(f"by is one of {', '.join(WAYS)}, not {by!r}")
        self.by = by
        for name, value in fitted.items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("threshold", torch.tensor(float(threshold)), persistent=False)
        self._neighbours = int(fitted["k"]) if by == "neighbours" else 0

    @classmethod
    def fit(
        cls,
        features: Tensor,
        logits: Tensor,
        labels: Tensor,
        by: By = "centers",
        lose: float = 0.05,
        neighbours: int = 10,
    ) -> "UnknownScorer":
        """A scorer for boxes of a detector.

        Args:
            features: [N, D] of boxes that it was trained on.
            logits: [N, C] of the same boxes; column 0 is "none of the classes".
            labels: [N] as annotated, in 1..C - 1.
            by: how boxes are scored, see the class.
            lose: the share of known objects, in [0, 1), that may be taken for unknown: the
                threshold is such that no larger share of the N boxes is. Of images that were not
                trained on more are lost; :func:`threshold_losing` finds a threshold on those.
            neighbours: k; with ``by="neighbours"``. Of more than 20,000 boxes so many are kept,
                by chance, always the same.

        Raises:
            ValueError: for shapes that do not fit, labels out of range, features or logits that
                are not finite, and where there are no boxes.
        """
        _check(features, logits, labels)
        features, logits, labels = features.detach(), logits.detach(), labels.detach().cpu()
        if neighbours < 1:
            raise ValueError(f"neighbours is 1 or more, not {neighbours}")
        if by == "neighbours":
            chosen = _some(len(features))
            directions = F.normalize(features[chosen].float(), dim=1)
            scorer = cls(by, {"directions": directions, "k": torch.tensor(neighbours)}, math.inf)
            own = scorer._to_neighbours(directions, besides=1)
        else:
            fitted = _fitted(by, features.float().cpu(), labels, logits.shape[1] - 1)
            scorer = cls(by, {k: x.to(features.device) for k, x in fitted.items()}, math.inf)
            own = scorer(features, logits)
        scorer.threshold.fill_(threshold_losing(own, lose))
        return scorer

    @torch.no_grad()
    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """The scores of M boxes, float [M], of their features [M, D] and logits [M, C]."""
        exact = torch.promote_types(logits.dtype, torch.float32)
        logits, features = logits.to(exact), features.float()
        if self.by == "softmax":
            return 1 - logits.softmax(1)[:, 1:].amax(1)
        if self.by == "logit":
            return -logits[:, 1:].amax(1)
        if self.by == "energy":
            return -logits[:, 1:].logsumexp(1)
        if self.by == "mahalanobis":
            white = features @ cast(Tensor, self.whitening)
            return torch.cdist(white, cast(Tensor, self.means)).square().amin(1)
        directions = F.normalize(features, dim=1)
        if self.by == "centers":
            distance = torch.cdist(directions, cast(Tensor, self.centers))
            return (distance / cast(Tensor, self.spreads)).amin(1)
        return self._to_neighbours(directions)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "UnknownScorer":
        """It moves with a model that it is part of, but its numbers stay as fine as they are."""
        moved = super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)
        return cast(UnknownScorer, moved)

    def state(self) -> dict[str, Any]:
        """What the constructor takes, of plain values and tensors on the CPU."""
        fitted = {k: x.cpu() for k, x in self.named_buffers() if k != "threshold"}
        return {"by": self.by, "fitted": fitted, "threshold": float(self.threshold)}

    def _to_neighbours(self, directions: Tensor, besides: int = 0) -> Tensor:
        """Distances to the k-th nearest, ``besides`` so many nearer ones, themselves say."""
        kept = cast(Tensor, self.directions)
        k = min(self._neighbours + besides, len(kept))
        parts = [directions] if exporting() else directions.split(1024)
        nearest = [(part @ kept.T).topk(k, dim=1).values[:, -1] for part in parts]
        cosine = torch.cat(nearest) if nearest else directions.new_zeros(0)
        return (2 - 2 * cosine).clamp(min=0).sqrt()


def threshold_losing(scores: Tensor, lose: float) -> float:
    """The lowest of the scores of known objects that at most the share ``lose`` lies above.

    Args:
        scores: [N] of known objects.
        lose: in [0, 1).

    Raises:
        ValueError: there are no scores, or ``lose`` is out of its range.
    """
    if not 0 <= lose < 1:
        raise ValueError(f"the share of known objects to lose lies in [0, 1), not {lose}")
    if not len(scores):
        raise ValueError("there are no known objects to set a threshold by")
    kept = math.ceil(len(scores) * (1 - lose) - 1e-9)
    return float(scores.sort().values[kept - 1])


def _fitted(by: By, features: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
    if by == "centers":
        directions = F.normalize(features, dim=1).numpy()
        found = class_centers(directions, labels.numpy() - 1, classes)
        there = found.counts > 0
        parts = {"centers": found.centers[there], "spreads": found.spreads[there]}
        return {name: torch.from_numpy(x).float() for name, x in parts.items()}
    if by == "mahalanobis":
        return _whitened(features.double(), labels)
    return {}


def _whitened(features: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """``whitening`` [D, D], after which distances are Mahalanobis', and ``means`` [C, D] there."""
    present, place = labels.unique(return_inverse=True)
    sums = features.new_zeros(len(present), features.shape[1]).index_add_(0, place, features)
    means = sums / place.bincount()[:, None]
    values, vectors = torch.linalg.eigh(_shrunk_covariance(features - means[place]))
    # Directions in which nothing varies count as the least that varies at all.
    least = values.amax().clamp(min=1e-12) * 1e-6
    whitening = vectors / values.clamp(min=least).sqrt()
    return {"whitening": whitening.float(), "means": (means @ whitening).float()}


def _shrunk_covariance(centered: Tensor) -> Tensor:
    """Ledoit and Wolf's (2004, lemma 3.2 to theorem 3.2), [D, D], of ``centered`` [N, D] around 0.

    It leans on the mean variance m in all directions alike, by b2 / d2: how far single boxes lie
    from the sample's covariance, over how far that lies from m I.
    """
    count, dim = centered.shape
    sample = centered.T @ centered / count
    even = sample.trace() / dim * torch.eye(dim, dtype=sample.dtype)
    d2 = (sample - even).square().sum()
    # The sum over boxes of |x x^T - S|^2 is that of |x|^4 - |S|^2.
    fourth = centered.square().sum(1).square().mean()
    b2 = ((fourth - sample.square().sum()) / count).clamp(min=0).minimum(d2)
    share = b2 / d2 if d2 > 0 else b2
    return share * even + (1 - share) * sample


def _some(count: int) -> Tensor:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[:_KEPT].sort().values


def _check(features: Tensor, logits: Tensor, labels: Tensor) -> None:
    shapes = [tuple(x.shape) for x in (features, logits, labels)]
    if [len(shape) for shape in shapes] != [2, 2, 1] or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"features [N, D], logits [N, C] and labels [N], not {', '.join(map(str, shapes))}"
        )
    if not len(labels):
        raise ValueError("there are no boxes to fit to")
    low, high = int(labels.min()), int(labels.max())
    if low < 1 or high >= logits.shape[1]:
        raise ValueError(f"labels lie in 1..{logits.shape[1] - 1}, not {low}..{high}")
    for name, values in (("features", features), ("logits", logits)):
        if not values.isfinite().all():
            raise ValueError(f"{name} are not finite; has the training diverged?")
