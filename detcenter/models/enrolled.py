"""Classes that a detector was not trained on, told by the features of a few boxes."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BY_DIFFERENCES = "donot_use_mm_for_euclid_dist"
_EVEN = 0.7  # lambda of the docstring
_SHARPNESS = torch.logspace(0, 9, 73, base=2)  # that are tried


class EnrolledClasses(nn.Module):
    r"""Classes known by their prototypes, in the feature space of a detector's taught classes.

    Features are scaled to length 1, :math:`u = f / |f|`, and whitened: :math:`z = W u / |W u|`,
    where :math:`W = \Sigma^{-1/2}` makes little of those directions in which boxes of one class
    scatter. :math:`\Sigma` is the covariance of the taught boxes about their classes' means, which
    leans on what is alike in all directions by :math:`\lambda = 0.7`:
    :math:`\Sigma = (1 - \lambda) S + \lambda \, I \, \mathrm{tr} S / D` (a regularised
    discriminant analysis, Friedman 1989, eq. 18). A class that was not taught scatters in other
    directions too, so this is more than an estimate of the taught ones' covariance would need.

    A class is a Gaussian there, or a mixture of some, its modes, all of one width:
    :math:`\log p(z|c) = -\kappa |z - m_c|^2` up to a constant, where :math:`m_c` is the mean of its
    boxes' :math:`z`, its prototype. :math:`\kappa` makes the labels of the taught boxes most
    likely, each box left out of its own class's mean. All classes are equally likely beforehand.

    Made by :meth:`fit`; then :meth:`add` a class by its boxes, and let a detector find it with
    :func:`enroll`.

    Args:
        taught: ``centers`` [K, D], ``whitening`` W [D, D], ``rate`` kappa [] and ``apart`` [], how
            far boxes of neighbouring classes lie from each other, as :meth:`fit` finds them.
        enrolled: by name, ``centers`` [M, D] and ``shares`` [M] of its modes.
    """

    def __init__(
        self, taught: Mapping[str, Tensor], enrolled: Mapping[str, Mapping[str, Tensor]] = {}
    ) -> None:
        super().__init__()
        self._taught = {name: x.detach().cpu().float() for name, x in taught.items()}
        self._enrolled = {name: dict(modes) for name, modes in enrolled.items()}
        self._build()

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor) -> "EnrolledClasses":
        """No class yet, in the space of the boxes that a detector was trained on.

        Args:
            features: [N, D], as :func:`detcenter.box_features` gives them.
            labels: [N] as annotated, from 1.

        Raises:
            ValueError: for shapes that do not fit, no boxes, or features that are not finite.
        """
        _check(features)
        labels = labels.detach().cpu().long()
        if labels.shape != features.shape[:1]:
            shapes = f"{list(features.shape)} and {list(labels.shape)}"
            raise ValueError(f"features [N, D] and labels [N], not {shapes}")
        places = labels.unique(return_inverse=True)[1]
        directions = F.normalize(features.detach().cpu().float(), dim=1)
        whitening = _whitening(directions.double(), places)
        directions = _directions(directions, whitening)
        centers = _means(directions, places)
        square = (directions - centers[places]).square().sum(1)
        taught = {
            "centers": centers,
            "whitening": whitening,
            "rate": _rate(directions, places, centers, float(square.mean())),
            "apart": _apart(centers, _means(square[:, None], places)[:, 0]),
        }
        return cls(taught)

    @property
    def names(self) -> list[str]:
        """Of the enrolled classes, in the order of their labels."""
        return list(self._enrolled)

    def add(self, name: str, features: Tensor) -> int:
        """Enrol the class ``name`` by its boxes, or exchange the boxes that it was enrolled by.

        Boxes that lie as far from each other as those of a taught class lie from the nearest other
        class are modes of their own (average linkage).

        Args:
            name: of the class.
            features: [N, D] of its boxes, one or more.

        Returns:
            How many modes it has.

        Raises:
            ValueError: for a shape that does not fit, no boxes, or features that are not finite.
        """
        _check(features, self._taught["centers"].shape[1])
        directions = _directions(features.detach().cpu(), cast(Tensor, self.whitening).cpu())
        mode = _modes(directions, float(self._taught["apart"]))
        counts = mode.bincount()
        shares = counts / counts.sum()
        self._enrolled[name] = {"centers": _means(directions, mode), "shares": shares}
        self._build()
        return len(counts)

    def remove(self, name: str) -> None:
        """Forget the class ``name``; those behind it move up by a label.

        Raises:
            KeyError: if there is none.
        """
        del self._enrolled[name]
        self._build()

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """The log probability [..., 1 + E] that boxes with features [..., D] are of any taught
        class, and that they are of each of the E enrolled ones, if they are of one of them all.
        """
        directions = _directions(features.flatten(0, -2), cast(Tensor, self.whitening))
        # By differences: kappa would make much of what matrix products lose of small distances.
        distance = torch.cdist(directions, cast(Tensor, self.centers), compute_mode=_BY_DIFFERENCES)
        square = distance.square().unflatten(0, features.shape[:-1])
        likely = cast(Tensor, self.log_shares) - cast(Tensor, self.rate) * square
        parts = likely.split(self._counts, -1)
        return torch.stack([part.logsumexp(-1) for part in parts], -1).log_softmax(-1)

    def _build(self) -> None:
        """What :meth:`forward` reads, of the taught classes and then of all modes."""
        modes = list(self._enrolled.values())
        centers = torch.cat([self._taught["centers"], *(x["centers"] for x in modes)])
        ones = torch.ones(len(self._taught["centers"]))
        values = {
            "whitening": self._taught["whitening"],
            "rate": self._taught["rate"],
            "centers": centers,
            "log_shares": torch.cat([ones, *(x["shares"] for x in modes)]).log(),
        }
        before = getattr(self, "centers", centers)
        for name, x in values.items():
            self.register_buffer(name, x.to(before.device), persistent=False)
        self._counts = [len(ones), *(len(x["centers"]) for x in modes)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "EnrolledClasses":
        """It moves with the model that it is part of, but its numbers stay as fine as they are."""
        moved = super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)
        return cast(EnrolledClasses, moved)

    def state(self) -> dict[str, Any]:
        """What the constructor takes, of tensors on the CPU."""
        return {
            "taught": dict(self._taught),
            "enrolled": {k: dict(x) for k, x in self._enrolled.items()},
        }


def _check(features: Tensor, dim: int | None = None) -> None:
    if features.dim() != 2 or (dim is not None and features.shape[1] != dim):
        wanted = "N, D" if dim is None else f"N, {dim}"
        raise ValueError(f"features are [{wanted}], not {list(features.shape)}")
    if not len(features):
        raise ValueError("there are no boxes")
    if not features.isfinite().all():
        raise ValueError("features are not finite; has the training diverged?")


def _directions(features: Tensor, whitening: Tensor) -> Tensor:
    """[N, D] on the unit sphere, whitened."""
    with torch.autocast(features.device.type, enabled=False):
        return F.normalize(F.normalize(features.float(), dim=1) @ whitening, dim=1)


def _means(rows: Tensor, places: Tensor) -> Tensor:
    """Of the rows [N, D] at each place [K, D]."""
    count = places.bincount()
    sums = rows.new_zeros(len(count), rows.shape[1]).index_add(0, places, rows)
    return sums / count[:, None]


def _whitening(directions: Tensor, places: Tensor) -> Tensor:
    """[D, D], W of a covariance whose mean eigenvalue is 1."""
    away = directions - _means(directions, places)[places]
    values, vectors = torch.linalg.eigh(away.T.cov(correction=0))
    if values.mean() < 1e-12:  # nothing scatters
        return torch.eye(len(values))
    values = (1 - _EVEN) * values.clamp(min=0) / values.mean() + _EVEN
    return (vectors / values.sqrt() @ vectors.T).float()


def _apart(centers: Tensor, variances: Tensor) -> Tensor:
    """How far boxes of two taught classes lie apart that are neighbours, the root of the mean."""
    if len(centers) < 2:
        return torch.tensor(torch.inf)
    square = torch.cdist(centers, centers).square() + variances[:, None] + variances
    return square.fill_diagonal_(torch.inf).amin(1).mean().sqrt()


def _rate(directions: Tensor, places: Tensor, centers: Tensor, variance: float) -> Tensor:
    """kappa, of some multiples of that of a Gaussian of one dimension."""
    count = places.bincount()[places]
    square = torch.cdist(directions, centers).square()
    # The distance to the mean of the others; of a single box it is not known, and it is left out.
    rows = torch.arange(len(places))
    square[rows, places] *= (count / (count - 1).clamp(min=1)).square()
    square, places = square[count > 1], places[count > 1]
    rates = _SHARPNESS / (2 * max(variance, 1e-12))
    if not len(places) or len(centers) < 2:
        return 8 * rates[0]  # nothing tells, a guess
    losses = [float(F.cross_entropy(-rate * square, places)) for rate in rates]
    return rates[losses.index(min(losses))]


def _modes(directions: Tensor, apart: float) -> Tensor:
    """[N], of each box its mode, from 0."""
    if len(directions) < 2:
        return torch.zeros(len(directions), dtype=torch.long)
    try:
        from scipy.cluster.hierarchy import fcluster, linkage  # type: ignore[import-untyped]
    except ImportError:
        message = 'to enrol a class by several boxes needs SciPy: pip install "detcenter[train]"'
        raise ImportError(message) from None
    tree = linkage(directions.double().numpy(), "average")
    return torch.from_numpy(fcluster(tree, apart, "distance")).long() - 1
