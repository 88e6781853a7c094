"""Classes that a detector was not trained on, told by the features of a few boxes."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcenter.class_centers import class_centers

_BY_DIFFERENCES = "donot_use_mm_for_euclid_dist"
_SHARPNESS = torch.logspace(0, 9, 73, base=2)  # that are tried


class EnrolledClasses(nn.Module):
    r"""Classes known by their prototypes, in the feature space of a detector's taught classes.

    Features are scaled to length 1, :math:`u = f / |f|`. A class is a Gaussian there, or a mixture
    of some, its modes: :math:`\log p(u|c) = -\kappa (|u - m_c|^2 / 2 s_c^2 + \log s_c)`, where
    :math:`m_c` is the mean of its boxes' :math:`u`, its prototype, and :math:`s_c^2` the mean
    square of their distances to it, which leans on that of all taught classes as if five boxes had
    it. The sharpness :math:`\kappa`, one for all, stands for the dimensions in which boxes scatter:
    it makes the labels of the taught boxes most likely, each box left out of its own class's mean.
    All classes are equally likely beforehand.

    Made by :meth:`fit`; then :meth:`add` a class by its boxes, and let a detector find it with
    :func:`enroll`.

    Args:
        taught: ``centers`` [K, D], ``spreads`` [K], and ``apart``, ``spread`` and ``sharpness`` [],
            as :meth:`fit` finds them.
        enrolled: by name, ``centers`` [M, D], ``spreads`` [M] and ``shares`` [M] of its modes.
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
        present, places = labels.unique(return_inverse=True)
        directions = F.normalize(features.detach().cpu().float(), dim=1)
        found = class_centers(directions.numpy(), places.numpy(), len(present))
        centers = torch.from_numpy(found.centers).float()
        spreads = torch.from_numpy(found.spreads).float()
        own = (directions - centers[places]).square().sum(1)
        taught = {
            "centers": centers,
            "spreads": spreads,
            "spread": own.mean().clamp(min=1e-12).sqrt(),
            "apart": _apart(centers, spreads),
            "sharpness": _sharpness(directions, places, centers, spreads),
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
        directions = F.normalize(features.detach().cpu().float(), dim=1)
        mode = _modes(directions, float(self._taught["apart"]))
        counts = mode.bincount().float()
        sums = directions.new_zeros(len(counts), directions.shape[1])
        centers = sums.index_add(0, mode, directions) / counts[:, None]
        square = (directions - centers[mode]).square().sum(1)
        of_all = 5 * self._taught["spread"] ** 2
        within = torch.zeros_like(counts).index_add(0, mode, square)
        spreads = ((within + of_all) / (counts + 5)).sqrt()
        shares = counts / counts.sum()
        self._enrolled[name] = {"centers": centers, "spreads": spreads, "shares": shares}
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
        directions = F.normalize(features.float().flatten(0, -2), dim=1)
        # By differences: the rates would make much of what matrix products lose of small distances.
        distance = torch.cdist(directions, cast(Tensor, self.centers), compute_mode=_BY_DIFFERENCES)
        square = distance.square().unflatten(0, features.shape[:-1])
        likely = cast(Tensor, self.offsets) - cast(Tensor, self.rates) * square
        parts = likely.split(self._counts, -1)
        return torch.stack([part.logsumexp(-1) for part in parts], -1).log_softmax(-1)

    def _build(self) -> None:
        """What :meth:`forward` reads, of the taught classes and then of all modes."""
        modes = list(self._enrolled.values())
        centers = torch.cat([self._taught["centers"], *(x["centers"] for x in modes)])
        spreads = torch.cat([self._taught["spreads"], *(x["spreads"] for x in modes)])
        ones = torch.ones(len(self._taught["centers"]))
        shares = torch.cat([ones, *(x["shares"] for x in modes)])
        sharpness = self._taught["sharpness"]
        values = {
            "centers": centers,
            "rates": sharpness / (2 * spreads**2),
            "offsets": shares.log() - sharpness * spreads.log(),
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


def _apart(centers: Tensor, spreads: Tensor) -> Tensor:
    """How far boxes of two taught classes lie apart that are neighbours, the root of the mean."""
    if len(centers) < 2:
        return torch.tensor(torch.inf)
    square = torch.cdist(centers, centers).square() + spreads[:, None] ** 2 + spreads**2
    return square.fill_diagonal_(torch.inf).amin(1).mean().sqrt()


def _sharpness(directions: Tensor, places: Tensor, centers: Tensor, spreads: Tensor) -> Tensor:
    count = places.bincount().float()[places]
    square = torch.cdist(directions, centers).square()
    # The distance to the mean of the others; of a single box it is not known, and it is left out.
    rows = torch.arange(len(places))
    square[rows, places] *= (count / (count - 1).clamp(min=1)).square()
    square, places = square[count > 1], places[count > 1]
    if not len(places) or len(centers) < 2:
        return torch.tensor(8.0)
    log_p = -(square / (2 * spreads**2) + spreads.log())
    losses = [float(F.cross_entropy(sharpness * log_p, places)) for sharpness in _SHARPNESS]
    return _SHARPNESS[losses.index(min(losses))]


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
