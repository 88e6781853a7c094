"""Does center loss make a class easier to search for? `detcenter similar --measure`, paired.

    python benchmarks/searching.py runs/comparison plain center

The folder is that of a `detcenter compare`, then two of its variants. Each of their runs is
measured, and what is found is kept in the run's folder. Printed are means over the runs that both
have (of the same seed or data set), and the second's difference to the first with its 95 %
interval by Student's t.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from detcenter.analysis.paired import paired_difference
from detcenter.cli import main as detcenter

KEYS = ("P@1", "P@10", "AP")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("variants", nargs=2)
    parser.add_argument("--most", type=int, help="look at so many runs of each variant at most")
    given = parser.parse_args()
    first, second = (given.folder / name for name in given.variants)
    runs = [file.parent.relative_to(first) for file in sorted(first.rglob("results.json"))]
    both = [run for run in runs if (second / run / "results.json").exists()][: given.most]
    if len(both) < 2:
        print(f"{given.folder}: {len(both)} runs that both have; two are needed", file=sys.stderr)
        return 2
    means = {folder: [_measured(folder / run) for run in both] for folder in (first, second)}
    print(f"{len(both)} runs of {first.name} and {second.name}")
    for key in KEYS:
        without, with_it = ([mean[key] for mean in means[folder]] for folder in (first, second))
        found = paired_difference(without, with_it)
        print(
            f"{key:5} {np.mean(without):.3f} {np.mean(with_it):.3f}  "
            f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
        )
    return 0


def _measured(run: Path) -> dict[str, float]:
    file = run / "search" / "retrieval.json"
    if not file.exists():
        words = ["similar", "--checkpoint", str(run / "last.pth"), "--measure"]
        if detcenter([*words, "--output", str(file.parent)]):
            raise SystemExit(f"{run} cannot be measured")
    mean: dict[str, float] = json.loads(file.read_text())["mean"]
    return mean


if __name__ == "__main__":
    sys.exit(main())
