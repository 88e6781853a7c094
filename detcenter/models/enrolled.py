"""Classes that a detector was not trained on, told by the features of a few boxes."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Of kappa. It makes the classes of validation boxes most likely, taught and enrolled by five or ten
# boxes, for four Faster R-CNNs of digits, with center loss and without, and an SSD's embedding.
_SHARP = 7.0
_BY_DIFFERENCES = "donot_use_mm_for_euclid_dist"


class EnrolledClasses(nn.Module):
    r"""Classes known by their prototypes, in the feature space of a detector's taught classes.

    Features are scaled to length 1, :math:`u = f / |f|`. A class is a Gaussian there, or a mixture
    of some, its modes, weighted by their boxes and all of one width. Of a mode, up to a constant,
    :math:`\log p(u) = -\kappa (|u - m|^2 - s^2 / n)`, where :math:`m` is the mean of its :math:`n`
    boxes' :math:`u`, its prototype, and :math:`s^2` the variance of taught boxes about their
    class's mean: the mean of few boxes lies off by :math:`s^2 / n` in the mean square, which is no
    reason to believe less in the class. :math:`\kappa` is 7 over the mean square of the distance
    of two taught classes' means, and :math:`2 / s^2` at most, which it is where a single class is
    taught. How boxes scatter does not tell more, as those that were trained on scatter less than
    others. All classes are equally likely beforehand.

    Made by :meth:`fit`; then :meth:`add` a class by its boxes, and let a detector find it with
    :func:`enroll`.

    Args:
        taught: ``centers`` [K, D] and how many boxes they are of, ``counts`` [K]; ``rate`` kappa
            [], ``variance`` s^2 [], and ``apart`` [], how far boxes of neighbouring classes lie
            from each other, as :meth:`fit` finds them.
        enrolled: by name, ``centers`` [M, D] and ``counts`` [M] of its modes.
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
        centers = _means(directions, places)
        square = (directions - centers[places]).square().sum()
        variance = (square / max(len(places) - len(centers), 1)).clamp(min=1e-12)
        taught = {
            "centers": centers,
            "counts": places.bincount(),
            "rate": _rate(centers, variance),
            "variance": variance,
            "apart": _apart(centers, variance),
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
        counts = mode.bincount()
        self._enrolled[name] = {"centers": _means(directions, mode), "counts": counts.float()}
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
        # By differences: kappa would make much of what matrix products lose of small distances.
        distance = torch.cdist(directions, cast(Tensor, self.centers), compute_mode=_BY_DIFFERENCES)
        square = distance.square().unflatten(0, features.shape[:-1])
        likely = cast(Tensor, self.offsets) - cast(Tensor, self.rate) * square
        parts = likely.split(self._counts, -1)
        return torch.stack([part.logsumexp(-1) for part in parts], -1).log_softmax(-1)

    def _build(self) -> None:
        """What :meth:`forward` reads, of the taught classes and then of all modes."""
        modes = list(self._enrolled.values())
        centers = torch.cat([self._taught["centers"], *(x["centers"] for x in modes)])
        counts = torch.cat([self._taught["counts"], *(x["counts"] for x in modes)])
        ones = torch.ones(len(self._taught["counts"]))
        shares = torch.cat([ones, *(x["counts"] / x["counts"].sum() for x in modes)])
        rate = self._taught["rate"]
        values = {
            "rate": rate,
            "centers": centers,
            "offsets": shares.log() + rate * self._taught["variance"] / counts,
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


def _means(rows: Tensor, places: Tensor) -> Tensor:
    """Of the rows [N, D] at each place [K, D]."""
    count = places.bincount()
    sums = rows.new_zeros(len(count), rows.shape[1]).index_add(0, places, rows)
    return sums / count[:, None]


def _apart(centers: Tensor, variance: Tensor) -> Tensor:
    """How far boxes of two taught classes lie apart that are neighbours, the root of the mean."""
    if len(centers) < 2:
        return torch.tensor(torch.inf)
    square = torch.cdist(centers, centers).square().fill_diagonal_(torch.inf)
    return (square.amin(1).mean() + 2 * variance).sqrt()


def _rate(centers: Tensor, variance: Tensor) -> Tensor:
    """kappa."""
    most = 2 / variance
    pairs = len(centers) * (len(centers) - 1)
    if not pairs:
        return most
    return (_SHARP * pairs / torch.cdist(centers, centers).square().sum()).clamp(max=most)


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
