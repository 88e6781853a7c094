"""What RankHardLoss costs against one plain similarity matrix, forward and backward.

    python benchmarks/rank_hard.py [--positives 2000] [--dims 64] [--repeats 30] [--json FILE]

The arms take turns, so that what else the machine does falls on all of them; the figures are
medians. "similarity" is ``x @ x.T`` with a random gradient coming in; "summed" is its sum, whose
gradient is one number that PyTorch spreads over the whole matrix, which the CPU multiplies slower.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from timing import device, heading, medians, written
from torch import Tensor

from detcenter.losses.rank_hard import RankHardLoss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--positives", type=int, default=2000)
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    print(heading())
    print(f"{'arm':12} {'median':>10} {'against similarity':>19}")
    arms = _arms(arguments.positives, arguments.dims, arguments.classes)
    found = medians(arms, arguments.repeats)
    for arm, median in found.items():
        print(f"{arm:12} {1000 * median:7.2f} ms {median / found['similarity']:18.2f}x")
    sizes = {key: getattr(arguments, key) for key in ("positives", "dims", "classes")}
    written(arguments.json, [sizes | {"arm": arm, "seconds": s} for arm, s in found.items()])


def _arms(positives: int, dims: int, classes: int) -> dict[str, Callable[[], None]]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(positives, dims, generator=generator).to(device()).requires_grad_()
    labels = torch.randint(1, classes + 1, (positives,), generator=generator).to(device())
    gradient = torch.randn(positives, positives, generator=generator).to(device())
    rank_hard_loss = RankHardLoss()

    def similarity() -> Tensor:
        return features @ features.T

    return {
        "similarity": lambda: _backward(features, similarity(), gradient),
        "summed": lambda: _backward(features, similarity().sum()),
        "rank_hard": lambda: _backward(features, rank_hard_loss(features, labels)),
    }


def _backward(features: Tensor, output: Tensor, gradient: Tensor | None = None) -> None:
    features.grad = None
    output.backward(gradient)


if __name__ == "__main__":
    main()
