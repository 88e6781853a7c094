"""One pair of variants over several comparisons, as study.md has it.

python docs/study/pooled.py softmax center docs/study/ssd_200.json docs/study/ssd_100.json
"""

import json
import sys
from pathlib import Path

from detcenter.analysis import paired_difference

METRICS = ("AP", "AP50")


def main(first: str, second: str, files: list[str]) -> None:
    print(f"{second} minus {first}, points: mean and 95 % interval")
    everything: dict[str, list[float]] = {name: [] for name in METRICS}
    for file in files:
        pairs = json.loads(Path(file).read_text())["pairs"]
        pair = next((p for p in pairs if (p["first"], p["second"]) == (first, second)), None)
        if pair is None:
            sys.exit(f"{file} has no pair of {first} and {second}")
        for name in METRICS:
            everything[name] += pair[name]["values"]
        path = Path(file)
        setting = path.parent.name if path.stem == "compare" else path.stem
        _print(setting, {name: pair[name]["values"] for name in METRICS})
    if any(everything.values()):
        _print("all", everything)


def _print(setting: str, values: dict[str, list[float]]) -> None:
    row = f"{setting:14}{len(values['AP']):3} seeds"
    for name, of_metric in values.items():
        found = paired_difference([0.0] * len(of_metric), of_metric)
        mean, low, high = (100 * x for x in (found.mean, found.low, found.high))
        row += f"   {name:5}{mean:+5.1f} ({low:+5.1f} to {high:+5.1f}), p {found.p:.2g}"
    print(row)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
