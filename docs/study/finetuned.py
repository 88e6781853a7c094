"""Fine-tuning with the term against without it, and against training with it from the start.

python docs/study/finetuned.py runs/study/rcnn_finetuned without with
"""

import json
import sys
from pathlib import Path

from detcenter.analysis import paired_difference


def main(folder: Path, first: str, second: str) -> None:
    ends = [_ap_by_seed(folder / name) for name in (first, second)]
    seeds = sorted(ends[0].keys() & ends[1].keys())
    values = [[end[seed] for seed in seeds] for end in ends]
    for name, aps in zip((first, second), values, strict=True):
        print(f"{name:12} AP {' '.join(f'{ap:.3f}' for ap in aps)}")
    found = paired_difference(*values)
    mean, low, high = (100 * x for x in (found.mean, found.low, found.high))
    print(f"{second} minus {first}: {mean:+.1f} points ({low:+.1f} to {high:+.1f})")


def _ap_by_seed(folder: Path) -> dict[str, float]:
    files = folder.glob("seed_*/results.json")
    return {file.parent.name: json.loads(file.read_text())["AP"] for file in files}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
