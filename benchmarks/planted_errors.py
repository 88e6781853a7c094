"""How well `detcenter audit` finds planted errors, beside rivals on the same detections.

    python benchmarks/planted_errors.py --config configs/digits_lab.yaml --seeds 3 \
        [--output runs/planted] [--share 0.05] [--folds 3] [--jobs 2] [--plain] [keys of the recipe]

For each seed errors are planted in data.train and data.val (see planted.py), and three folds are
trained on what is annotated then. Every method sees the same detections and features of the same
boxes; only what is made of them differs. For each kind: average precision, precision among as many
as were planted, and recall among the first 5 % of the boxes. Boxes with errors of other kinds count
for nothing in the ranking of a kind. --plain trains without the center term.
"""

import copy
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from planted import plant
from rivals import by_detections, by_loss, cleanlab_scores, fiftyone_scores
from sklearn.metrics import average_precision_score

from detcenter.audit import box_scores, mixed, wrong_label_scores
from detcenter.data import DetectionDataset, write_coco
from detcenter.data.layouts.written import image_names, paths_of
from detcenter.evaluation.matching import box_iou
from detcenter.evaluation.table import aligned
from detcenter.recipe.config import Config
from detcenter.recipe.datasets import read_parts
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs.audited import Fold, fold_of, fold_runs
from detcenter.runs.compared import train_runs
from detcenter.runs.launching import Launch
from detcenter.runs.measured import detections_of
from detcenter.runs.side_by_side import jobs_of


def main() -> None:
    parser = recipe_parser("planted_errors.py", "Planted errors, found or not.")
    parser.add_argument("--seeds", type=int, default=3, help="sets of planted errors")
    parser.add_argument("--share", type=float, default=0.05, help="of the boxes, for each kind")
    parser.add_argument("--folds", type=int, default=3, help="parts")
    parser.add_argument("--jobs", type=str, help="trainings at a time")
    parser.add_argument("--plain", action="store_true", help="without the center term")
    config, arguments = parse_recipe(parser, sys.argv[1:])
    folder = Path(config.output or "runs/planted")
    jobs = jobs_of(arguments.jobs)
    if arguments.plain:
        config.center = None
    rows: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for seed in range(arguments.seeds):
        numbers = _of_seed(config, folder / f"seed_{seed}", seed, arguments, jobs)
        for key, values in numbers.items():
            rows[key].append(values)
        (folder / "planted.json").write_text(
            json.dumps(
                [{"kind": k, "method": m, "seeds": v} for (k, m), v in rows.items()], indent=1
            )
        )
    print(aligned(_table(rows), left=2))


def _of_seed(
    config: Config, folder: Path, seed: int, arguments: Any, jobs: Any
) -> dict[tuple[str, str], dict[str, float]]:
    config, name = copy.deepcopy(config), "plain" if arguments.plain else "term"
    errors = _planted_data(config, folder / "data", seed, arguments.share)
    config.data.format, config.data.root = "coco", str(folder / "data")
    config.data.train, config.data.val = (
        f"annotations/instances_{part}.json" for part in ("train", "val")
    )
    config.data.train_images = config.data.val_images = "images"
    runs = fold_runs(folder / name, config, arguments.folds)
    failed = train_runs(runs, Launch(jobs))
    if failed:
        raise SystemExit(str(failed))
    folds = [fold_of(path, run) for path, run in runs.items()]
    detections = [detections_of(path) for path in runs]
    return _judged(folds, detections, errors, folder / "data/images")


def _planted_data(config: Config, out: Path, seed: int, share: float) -> list[dict[str, Any]]:
    """Written once; returns the errors, with the names of their images."""
    file = out.with_name("errors.json")
    if file.exists():
        kept = json.loads(file.read_text())
        if kept["share"] != share:
            raise SystemExit(f"{file} is of --share {kept['share']}; give another --output")
        found: list[dict[str, Any]] = kept["errors"]
        return found
    parts, _ = read_parts(config.data)
    annotations = [a for part in parts.values() for a in part.annotations]
    changed, errors = plant(annotations, len(parts["train"].classes), share, seed)
    new, start = dict[str, DetectionDataset](), 0
    for key, part in parts.items():
        of_part = changed[start : start + len(part)]
        new[key] = DetectionDataset(of_part, part.classes)
        start += len(part)
    write_coco(out, new)
    names = image_names(paths_of(new))
    rows = [
        error._asdict() | {"image": names[annotations[error.image]["path"]]} for error in errors
    ]
    file.write_text(json.dumps({"share": share, "errors": rows}))
    return rows


def _judged(
    folds: Sequence[Fold], found: Sequence[Any], errors: Sequence[dict[str, Any]], images: Path
) -> dict[tuple[str, str], dict[str, float]]:
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for error in errors:
        by_image[error["image"]].append(error)
    planted, columns = [], defaultdict(list)
    missing = defaultdict[str, list[Any]](list)
    for fold, (annotations, detections) in zip(folds, found, strict=True):
        names = [a["path"].relative_to(images).as_posix() for a in fold.dataset.annotations]
        planted += [
            _kind_at(by_image[names[image]], box)
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
        numbers[kind, method] = _numbers(kinds[kept] == kind, values[kept], len(kinds))
    for method, rows in missing.items():
        drops = {name: [e for e in of if e["kind"] == "drop"] for name, of in by_image.items()}
        numbers["drop", method] = _drop_numbers(rows, drops, len(kinds))
    return numbers


def _kind_at(errors: Sequence[dict[str, Any]], box: np.ndarray) -> str:
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


def _numbers(wrong: np.ndarray, scores: np.ndarray, boxes: int) -> dict[str, float]:
    order = np.argsort(-scores, kind="stable")
    number, first = int(wrong.sum()), round(0.05 * boxes)
    return {
        "AP": float(average_precision_score(wrong, scores)),
        "precision": float(wrong[order][:number].mean()),
        "recall": float(wrong[order][:first].sum() / number),
    }


def _drop_numbers(
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


def _table(rows: Mapping[tuple[str, str], Sequence[dict[str, float]]]) -> list[list[str]]:
    table = [["kind", "method", "AP", "seeds", "precision", "recall at 5 %"]]
    for (kind, method), seeds in sorted(
        rows.items(), key=lambda x: (x[0][0], x[0][1] != "audit", x[0][1])
    ):
        means = [np.mean([s[key] for s in seeds]) for key in ("AP", "precision", "recall")]
        each = " ".join(f"{s['AP']:.3f}" for s in seeds)
        table.append([kind, method, f"{means[0]:.3f}", each, *(f"{x:.3f}" for x in means[1:])])
    return table


if __name__ == "__main__":
    main()
