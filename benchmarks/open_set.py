"""Does the term make unknown objects easier to tell? Every way to score, by variant, over seeds.

    python benchmarks/open_set.py --config configs/digits_lab.yaml --data.unknown "[8, 9]" \
        --set "plain: center=null" --set "center: center.weight=0.3" [--seeds 5] [--jobs 2] \
        [--folds N] [--score 0.05] [--output runs/open_set] [keys of the recipe]

Trains every variant with each seed, as `detcenter compare` does, and measures each run as
`detcenter openset` does; what is measured is kept in the run's folder. Printed are means over seeds
by variant and way, and the paired difference of every variant to the first with its 95 % interval
by Student's t over seeds. With --folds a seed's numbers are the means over its folds.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detcenter.analysis.paired import paired_difference
from detcenter.evaluation import metrics_json
from detcenter.evaluation.table import aligned
from detcenter.recipe.config import Config
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.recipe.variants import variants_of
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.compared import laid_out, train_all
from detcenter.runs.folder import LAST
from detcenter.runs.launching import Launch
from detcenter.runs.open_set import open_set
from detcenter.runs.side_by_side import jobs_of
from detcenter.training import load_checkpoint

OF_SCORES = ("AUROC", "FPR95", "AP_unknown", "U_recall")
KEYS = (*OF_SCORES, "WI", "A_OSE", "AP_known")


def main() -> None:
    parser = recipe_parser("open_set.py", "Unknown objects, told or not.")
    parser.add_argument("--set", type=str, action="append", help="a variant: NAME: KEY=VALUE ...")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each variant")
    parser.add_argument("--score", type=float, default=0.05, help="lowest score that counts")
    parser.add_argument("--folds", type=int, help="parts of a cross-validation")
    parser.add_argument("--jobs", type=str, help="trainings at a time")
    args = sys.argv[1:]
    config, arguments = parse_recipe(parser, args)
    if arguments.seeds < 2:
        raise SystemExit("--seeds: two or more, as differences are paired over them")
    recipes = variants_of(parser, args, arguments.set or [], None)
    folder = Path(config.output or "runs/open_set")
    runs = laid_out(folder, recipes, arguments.seeds, arguments.folds, None)
    every = {path: run for of in runs.values() for path, run in of.items()}
    train_all(every, Launch(jobs_of(arguments.jobs)))
    numbers = {
        name: [_measured(*run, arguments.score) for run in of.items()] for name, of in runs.items()
    }
    folds = arguments.folds or 1
    ways = ["(none)", *numbers[next(iter(numbers))][0]["by"]]
    values = {
        (name, way, key): _by_seed([_number(run, way, key) for run in of], folds)
        for name, of in numbers.items()
        for way in ways
        for key in KEYS
    }
    first, *others = runs
    print(aligned(_table(values, [*runs], ways), left=2))
    for other in others:
        print(f"\n{other} - {first}, with its 95 % interval over {arguments.seeds} seeds")
        print(aligned(_differences(values, first, other, ways)))


def _measured(folder: Path, config: Config, score: float) -> dict[str, Any]:
    kept, iou = folder / "open_set.json", config.evaluation.iou
    settings = {"score": score, "iou": iou}
    if kept.exists():
        read: dict[str, Any] = json.loads(kept.read_text())
        if read["settings"] == settings:
            return read
    checkpoint = load_checkpoint(folder / LAST)
    model = detector_of(checkpoint, folder / LAST)
    found = open_set(model, config.data, checkpoint["classes"], iou=iou, score=score)
    values = {"settings": settings, "(none)": found.unmarked, "by": found.marked}
    kept.write_text(metrics_json(values))
    return dict(json.loads(kept.read_text()))


def _number(run: Mapping[str, Any], way: str, key: str) -> float:
    value = (run["(none)"] if way == "(none)" else run["by"][way])[key]
    return np.nan if value is None else float(value)


def _by_seed(values: Sequence[float], folds: int) -> list[float]:
    """A class may be unmeasured in a fold."""
    found: list[float] = np.nanmean(np.reshape(values, (-1, folds)), axis=1).tolist()
    return found


def _table(
    values: Mapping[tuple[str, str, str], Sequence[float]],
    names: Sequence[str],
    ways: Sequence[str],
) -> list[list[str]]:
    rows = [["unknown by", "variant", *KEYS]]
    for way in ways:
        for name in names:
            means = {key: float(np.mean(values[name, way, key])) for key in KEYS}
            if way == "(none)":  # where nothing is scored
                means |= dict.fromkeys(OF_SCORES, np.nan)
            rows.append([way, name, *(_cell(x, key) for key, x in means.items())])
    return rows


def _differences(
    values: Mapping[tuple[str, str, str], Sequence[float]],
    first: str,
    other: str,
    ways: Sequence[str],
) -> list[list[str]]:
    rows = [["unknown by", *KEYS]]
    for way in ways:
        cells = []
        for key in KEYS:
            pair = values[first, way, key], values[other, way, key]
            if (way == "(none)" and key in OF_SCORES) or not np.isfinite(pair).all():
                cells.append("–")
                continue
            found = paired_difference(*pair)
            low, high = (_cell(x, key) for x in (found.low, found.high))
            cells.append(f"{_cell(found.mean, key)} ({low} to {high})")
        rows.append([way, *cells])
    return rows


def _cell(value: float, key: str) -> str:
    return "–" if np.isnan(value) else f"{value:.0f}" if key == "A_OSE" else f"{value:.3f}"


if __name__ == "__main__":
    main()
