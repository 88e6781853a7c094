"""Lead 4 of protocol.md: the same checkpoints without and with votes, listed in votes.csv.

python docs/study/votes.py RUNS none softmax:0.5   # measures what is not listed
python docs/study/votes.py                         # the tables alone

Centers, which voted in the pilot, did worse than the softmax and vote no more; the code that had
them is that of commit a7bce6e.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from second import holm, sign_flip_p, t_interval

import detcenter
from detcenter.evaluation import coco_metrics
from detcenter.recipe.config import config_from_dict
from detcenter.recipe.datasets import validation_set
from detcenter.runs.passes import detect_in
from detcenter.training import load_checkpoint

LISTED = Path(__file__).with_name("votes.csv")
METRICS = ("AP", "AP50", "AP75")
COLUMNS = ("setting", "arm", "data", "seed", "vote", *METRICS)
Rows = dict[tuple[str, ...], list[float]]
Row = tuple[tuple[str, ...], list[float]]


def main(root: Path | None, votes: list[str]) -> None:
    rows = listed()
    if root is not None:
        for path in sorted(root.glob("*/**/seed_*/last.pth")):
            for key, numbers in _measured(path, root, votes, rows):
                rows[key] = numbers
                _write(rows)
    for setting in dict.fromkeys(key[0] for key in rows):
        _print(rows, setting)


def differences(rows: Rows, setting: str, arm: str, vote: str) -> np.ndarray:
    """[n, 3]: points of the metrics, of every checkpoint that was measured without a vote too."""
    runs = [key for key in rows if (*key[:2], key[4]) == (setting, arm, vote)]
    pairs = [(rows[*run[:4], "none"], rows[run]) for run in runs if (*run[:4], "none") in rows]
    return 100 * np.array([np.subtract(b, a) for a, b in pairs])


def listed() -> Rows:
    """AP, AP50 and AP75 by setting, arm, data set, seed and vote."""
    if not LISTED.exists():
        return {}
    with LISTED.open(newline="") as file:
        rows = [*csv.reader(file)][1:]
    return {tuple(row[:5]): [float(x) for x in row[5:]] for row in rows}


def _write(rows: Rows) -> None:
    with LISTED.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*key, *(f"{x:.6f}" for x in rows[key])] for key in sorted(rows))


def _measured(path: Path, root: Path, votes: list[str], rows: Rows) -> Iterator[Row]:
    """What is not in ``rows`` yet of one checkpoint, a vote at a time."""
    arm, *data = path.parent.relative_to(root).parts[:-1]
    unit = data[0].rpartition("=")[2] if data else "0"
    run = root.name, arm, unit, path.parent.name.removeprefix("seed_")
    due = [vote for vote in votes if (*run, vote) not in rows]
    if not due:
        return
    checkpoint = load_checkpoint(path)
    dataset = validation_set(config_from_dict(checkpoint["config"]).data, checkpoint["classes"])
    model = detcenter.load(path)
    for vote in due:
        detcenter.vote(model, None if vote == "none" else float(vote.removeprefix("softmax:")))
        found = detect_in(dataset, model, 8, 0)
        numbers = coco_metrics(dataset.annotations, found, checkpoint["classes"], "hotcoco")
        print(*run, vote, f"{numbers['AP']:.4f}", flush=True)
        yield (*run, vote), [numbers[name] for name in METRICS]


def _print(rows: Rows, setting: str) -> None:
    """Each vote against none, by arm: a mean and its interval, in points."""
    p_values, lines = {}, {}
    for arm, vote in dict.fromkeys((key[1], key[4]) for key in rows if key[0] == setting):
        if vote == "none":
            continue
        found = differences(rows, setting, arm, vote)
        each = [(values.mean(), *t_interval(values)) for values in found.T]
        numbers = [
            f"{name} {'{:+.2f} ({:+.2f} to {:+.2f})'.format(*x)}"
            for name, x in zip(METRICS, each, strict=True)
        ]
        name = f"{arm} {vote}"
        lines[name] = f"{'  '.join(numbers)}  {(found[:, 0] > 0).sum()} of {len(found)} rise"
        if len(found) > 5:  # of fewer no test can tell
            p_values[name] = sign_flip_p(found[:, 0])
    adjusted = holm(p_values)
    for name, line in lines.items():
        p = f", p {p_values[name]:.3f}, Holm {adjusted[name]:.3f}" if name in p_values else ""
        print(f"{setting:13}{name:21}{line}{p}")
    if {"softmax", "center"} <= {name.split()[0] for name in p_values}:
        gains = [
            differences(rows, setting, arm, "softmax:0.5")[:, 0] for arm in ("softmax", "center")
        ]
        low, high = t_interval(gains[1] - gains[0])
        mean = (gains[1] - gains[0]).mean()
        print(f"{setting:13}center's gain - softmax's   AP {mean:+.2f} ({low:+.2f} to {high:+.2f})")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None, sys.argv[2:])
