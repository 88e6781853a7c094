"""How well `detcenter audit` finds planted errors, beside rivals on the same detections.

    python benchmarks/planted_errors.py --config configs/digits_lab.yaml \
        --set "term: center.weight=0.3" --set "plain: center=null" \
        [--seeds 5] [--shares 0.05 0.1] [--folds 3] [--jobs 2] [--output runs/planted] [keys]

For each seed errors are planted in data.train and data.val (see planted.py), and of every variant
three folds are trained on what is annotated then. Every method sees the same detections and
features of the same boxes; only what is made of them differs. For each kind: average precision,
precision among as many as were planted, and recall among the first 5 % of the boxes. Boxes with
errors of other kinds count for nothing in the ranking of a kind. Differences are paired by seed,
with their 95 % interval by Student's t. What was trained and judged is kept, so that the same
command goes on; --report prints the table of what is there.
"""

import argparse
import copy
import json
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from planted import plant
from rivals import by_detections, by_loss, cleanlab_scores, fiftyone_scores
from sklearn.metrics import average_precision_score

from detcenter.analysis.paired import paired_difference
from detcenter.audit import box_scores, mixed, wrong_label_scores
from detcenter.data import DetectionDataset, write_coco
from detcenter.data.layouts.written import image_names, paths_of
from detcenter.evaluation.matching import box_iou
from detcenter.evaluation.table import aligned
from detcenter.recipe.config import Config
from detcenter.recipe.datasets import read_parts
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.recipe.variants import variants_of
from detcenter.runs.audited import Fold, fold_of, fold_runs
from detcenter.runs.compared import train_all
from detcenter.runs.launching import Launch
from detcenter.runs.measured import detections_of
from detcenter.runs.side_by_side import jobs_of

Numbers = dict[tuple[str, str], dict[str, float]]  # by kind and method


def main() -> None:
    parser = recipe_parser("planted_errors.py", "Planted errors, found or not.")
    parser.add_argument("--set", type=str, action="append", help="a variant: NAME: KEY=VALUE ...")
    parser.add_argument("--seeds", type=int, default=5, help="sets of planted errors")
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.05], help="of the boxes, for each kind"
    )
    parser.add_argument("--folds", type=int, default=3, help="parts")
    parser.add_argument("--jobs", type=str, help="trainings at a time")
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = sys.argv[1:]
    config, arguments = parse_recipe(parser, args)
    folder = Path(config.output or "runs/planted")
    recipes = variants_of(parser, args, arguments.set or [], None)
    variants = {name: recipe for name, (recipe,) in recipes.items()}
    if not arguments.report:
        _measure(variants, folder, arguments)
    for share in arguments.shares:
        found = _kept(folder / f"share_{share:g}", [*variants])
        print(f"\n{share:.0%} of the boxes for each kind, {len(found[0])} sets of errors")
        print(aligned(_table(found, [*variants]), left=2))


def _measure(variants: Mapping[str, Config], folder: Path, arguments: argparse.Namespace) -> None:
    """Judge one set of errors while the folds of the next are trained."""
    launch = Launch(jobs_of(arguments.jobs))
    judged: list[Future[None]] = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(variants), spawn) as pool:
        for share in arguments.shares:
            for seed in range(arguments.seeds):
                of_seed = folder / f"share_{share:g}" / f"seed_{seed}"
                of = {
                    name: _with_errors(config, of_seed, seed, share)
                    for name, config in variants.items()
                    if not (of_seed / f"{name}.json").exists()
                }
                runs = {
                    name: fold_runs(of_seed / name, config, arguments.folds)
                    for name, config in of.items()
                }
                train_all({p: c for of_one in runs.values() for p, c in of_one.items()}, launch)
                judged += [pool.submit(_judge, of_seed, name, runs[name]) for name in runs]
        for one in judged:
            one.result()


def _judge(folder: Path, name: str, runs: Mapping[Path, Config]) -> None:
    folds = [fold_of(path, run) for path, run in runs.items()]
    detections = [detections_of(path) for path in runs]
    errors = json.loads((folder / "errors.json").read_text())
    numbers = _judged(folds, detections, errors, folder / "data/images")
    rows = [{"kind": kind, "method": method} | of for (kind, method), of in numbers.items()]
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1))


def _kept(folder: Path, names: Sequence[str]) -> list[list[Numbers]]:
    """By variant and seed; seeds of which a variant is missing are left out."""
    seeds = sorted(folder.glob("seed_*"), key=lambda path: int(path.name[5:]))
    whole = [s for s in seeds if all((s / f"{name}.json").exists() for name in names)]
    return [
        [
            {(row["kind"], row["method"]): row for row in json.loads(file.read_text())}
            for file in (seed / f"{name}.json" for seed in whole)
        ]
        for name in names
    ]


def _with_errors(config: Config, folder: Path, seed: int, share: float) -> Config:
    """The recipe on data with errors, which are made if they are not there."""
    config = copy.deepcopy(config)
    if not (folder / "errors.json").exists():
        _plant(config, folder, seed, share)
    config.data.format, config.data.root = "coco", str(folder / "data")
    config.data.train, config.data.val = (
        f"annotations/instances_{part}.json" for part in ("train", "val")
    )
    config.data.train_images = config.data.val_images = "images"
    config.train.seed += seed
    return config


def _plant(config: Config, folder: Path, seed: int, share: float) -> None:
    parts, _ = read_parts(config.data)
    annotations = [a for part in parts.values() for a in part.annotations]
    changed, errors = plant(annotations, len(parts["train"].classes), share, seed)
    new, start = dict[str, DetectionDataset](), 0
    for key, part in parts.items():
        of_part = changed[start : start + len(part)]
        new[key] = DetectionDataset(of_part, part.classes)
        start += len(part)
    write_coco(folder / "data", new)
    names = image_names(paths_of(new))
    rows = [
        error._asdict() | {"image": names[annotations[error.image]["path"]]} for error in errors
    ]
    (folder / "errors.json").write_text(json.dumps(rows))


def _judged(
    folds: Sequence[Fold], found: Sequence[Any], errors: Sequence[dict[str, Any]], images: Path
) -> Numbers:
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for error in errors:
        by_image[error["image"]].append(error)
    planted, columns = [], defaultdict(list)
    missing = defaultdict[str, list[Any]](list)
    for fold, (annotations, detections) in zip(folds, found, strict=True):
        names = [a["path"].relative_to(images).as_posix() for a in fold.dataset.annotations]
        planted += [
            kind_at(by_image[names[image]], box)
            for image, box in zip(fold.annotated.images.tolist(), fold.annotated.boxes, strict=True)
        ]
        for key, values in _all_scores(fold, annotations, detections).items():
            columns[key].append(values)
        for method, (at, boxes, scores) in _all_missing(fold, annotations, detections).items():
            missing[method] += [
                (score, names[image], box)
                for image, box, score in zip(at, boxes, scores, strict=True)
            ]
    kinds = np.array(planted)
    numbers = {}
    for (kind, method), parts in columns.items():
        kept = (kinds == "") | (kinds == kind)
        values = np.concatenate(parts)
        numbers[kind, method] = ranking_numbers(kinds[kept] == kind, values[kept], len(kinds))
    for method, rows in missing.items():
        drops = {name: [e for e in of if e["kind"] == "drop"] for name, of in by_image.items()}
        numbers["drop", method] = drop_numbers(rows, drops, len(kinds))
    return numbers


def kind_at(errors: Sequence[dict[str, Any]], box: np.ndarray) -> str:
    for error in errors:
        if error["kind"] != "drop" and np.allclose(error["box"], box, atol=0.01):
            return str(error["kind"])
    return ""


def _all_scores(fold: Fold, annotations: Any, detections: Any) -> dict[tuple[str, str], np.ndarray]:
    """Of each kind and method, how wrong each box is; higher is worse."""
    labels, said = fold.annotated.labels, fold.witnesses
    own = box_scores(labels, said)
    scores = {
        ("flip", "audit"): own.wrong_label,
        ("spawn", "audit"): own.surplus,
        ("shift", "audit"): own.badly_placed,
    }
    scores["flip", "without objectness"] = wrong_label_scores(mixed(said.opinions), labels)[0]
    for name, opinion in zip(said.opinions._fields, said.opinions, strict=True):
        scores["flip", f"{name} alone"] = wrong_label_scores(opinion, labels)[0]
    for rival in (by_detections, by_loss, fiftyone_scores, cleanlab_scores):
        for key, values in rival(fold, annotations, detections).items():
            scores[key] = values
    return scores


def _all_missing(fold: Fold, annotations: Any, detections: Any) -> dict[str, Any]:
    own = fold.missing
    sure = own.scores > 0.95
    return {
        "audit": (own.images.tolist(), own.boxes, own.scores),
        "fiftyone": (own.images[sure].tolist(), own.boxes[sure], own.scores[sure]),
    }


def ranking_numbers(wrong: np.ndarray, scores: np.ndarray, boxes: int) -> dict[str, float]:
    order = np.argsort(-scores, kind="stable")
    number, first = int(wrong.sum()), round(0.05 * boxes)
    return {
        "AP": float(average_precision_score(wrong, scores)),
        "precision": float(wrong[order][:number].mean()),
        "recall": float(wrong[order][:first].sum() / number),
    }


def drop_numbers(
    rows: Sequence[tuple[float, str, np.ndarray]],
    drops: Mapping[str, Sequence[dict[str, Any]]],
    boxes: int,
) -> dict[str, float]:
    """Detections find a dropped box at an IoU of 0.5, each once; what none finds counts as well."""
    left = {name: [np.array(e["box"]) for e in of] for name, of in drops.items()}
    total = sum(map(len, left.values()))
    hits = []
    for _, name, box in sorted(rows, key=lambda row: -row[0]):
        near = [
            i
            for i, true in enumerate(left.get(name, []))
            if box_iou(box[None], true[None])[0, 0] >= 0.5
        ]
        hits.append(bool(near))
        if near:
            left[name].pop(near[0])
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    return {
        "AP": float((precision * hits).sum() / total),
        "precision": float(sum(hits[:total]) / total),
        "recall": float(sum(hits[: round(0.05 * boxes)]) / total),
    }


def _table(found: Sequence[Sequence[Numbers]], names: Sequence[str]) -> list[list[str]]:
    """Every method by the first variant, and what of it the others have."""
    first, *others = found
    head = ["kind", "method", f"AP {names[0]}", "precision", "recall at 5 %", "audit - it"]
    head += [cell for name in names[1:] for cell in (f"AP {name}", f"{names[0]} - {name}")]
    rows = [head]
    for kind, method in sorted(first[0], key=lambda x: (x[0], x[1] != "audit", x[1])):

        def of(
            seeds: Sequence[Numbers], key: str = "AP", method: str = method, kind: str = kind
        ) -> list[float]:
            return [seed[kind, method][key] for seed in seeds]

        means = [f"{np.mean(of(first, key)):.3f}" for key in ("AP", "precision", "recall")]
        rival = "" if method == "audit" else _difference(of(first), of(first, method="audit"))
        cells = [(f"{np.mean(of(x)):.3f}", _difference(of(x), of(first))) for x in others]
        rows.append([kind, method, *means, rival, *(cell for pair in cells for cell in pair)])
    return rows


def _difference(base: Sequence[float], other: Sequence[float]) -> str:
    if len(base) < 2:
        return f"{other[0] - base[0]:.3f}"
    found = paired_difference(base, other)
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


if __name__ == "__main__":
    main()
