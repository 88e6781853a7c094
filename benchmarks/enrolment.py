"""A class that was left out of training, enrolled by few boxes: its AP, and what the others lose.

    python benchmarks/enrolment.py --runs runs/open_set/digits_rcnn --class 8 \
        [--boxes 1 5 10] [--draws 10] [--tuned 2] [--steps 200] [--jobs 1] [--first plain]

--runs holds trainings by variant and seed, as benchmarks/open_set.py and detcenter compare leave
them; the class is one of their data.unknown. Boxes are drawn of data.train, again for every draw;
AP is COCO's on data.val. Beside it, on the boxes of the first --tuned draws: the detector with one
class more, of which the layers that give class logits (and an R-CNN's boxes) are trained for
--steps steps, all else at rest. A batch has four images with a drawn box, where all boxes of the
class are annotated, and four images of the taught classes. The rows of the new class begin as the
mean of the others'.

What is measured is kept in each run's folder, for its checkpoint; remove it (enrolled_CLASS.json)
where the code has changed. Printed are means over seeds of the means over draws with the scatter of
draws, and differences paired by seed with their 95 % interval by Student's t: of the variants to
the first, and of enrolment to fine-tuning on the same boxes.
"""

import argparse
import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from detcenter import EnrolledClasses, enroll
from detcenter.analysis.paired import paired_difference
from detcenter.data import DetectionDataset, PooledDataset, TaughtDataset, build_transform
from detcenter.evaluation import coco_metrics
from detcenter.evaluation.table import aligned
from detcenter.recipe.config import DataConfig, config_from_dict
from detcenter.recipe.datasets import part_of, validation_set
from detcenter.recipe.detectors import detector
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.enrolment import annotated_boxes, seen_in, some_boxes, taught_classes
from detcenter.runs.folder import LAST
from detcenter.runs.passes import detect_in, input_size
from detcenter.training import collate, load_checkpoint, on_device

_BATCH = 8
_KEYS = ("AP_new", "AP_others")
_SAME = "enrolled, the same boxes"  # as were fine-tuned
# AP of one run, by the number of boxes, the way (plain, enrolled, fine-tuned) and the draw.
Measured = dict[tuple[int, str, int], dict[str, float]]
# Of a variant, by the number of boxes, the way and the key: each seed's mean over draws, and the
# mean scatter of draws.
Numbers = dict[tuple[int, str, str], tuple[list[float], float]]


class Plan(NamedTuple):
    """What is measured of every run."""

    name: str  # of the class
    boxes: list[int]
    draws: int
    tuned: int  # draws that are fine-tuned as well
    steps: int


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--class", dest="name", required=True, help="one of data.unknown")
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 5, 10])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--tuned", type=int, default=2, help="draws that are fine-tuned too")
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning")
    parser.add_argument("--jobs", type=int, default=1, help="runs that are measured at a time")
    parser.add_argument("--first", help="the variant that others are compared with")
    args = parser.parse_args()
    plan = Plan(args.name, args.boxes, args.draws, args.tuned, args.steps)
    runs: dict[str, list[Path]] = {}
    for path in sorted(args.runs.glob(f"*/seed_*/{LAST}")):
        runs.setdefault(path.parents[1].name, []).append(path.parent)
    if not runs:
        raise SystemExit(f"{args.runs}: holds no <variant>/seed_<n>/{LAST}")
    if len({tuple(folder.name for folder in of) for of in runs.values()}) > 1:
        raise SystemExit(f"{args.runs}: its variants have different seeds")
    if args.first is not None:
        if args.first not in runs:
            raise SystemExit(f"--first {args.first}: the variants are {', '.join(runs)}")
        runs = {args.first: runs.pop(args.first)} | runs
    folders = [folder for of in runs.values() for folder in of]
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        values = dict(zip(folders, pool.map(partial(_kept, plan=plan), folders), strict=True))
    numbers = {name: _by_seed([values[folder] for folder in of], plan) for name, of in runs.items()}
    print(aligned(_table(numbers), left=3))
    print("\nDifferences paired by seed, with their 95 % intervals")
    print(aligned(_differences(numbers), left=2))


def _kept(folder: Path, plan: Plan) -> Measured:
    """Measures what the folder does not hold yet."""
    path = folder / f"enrolled_{plan.name}.json"
    digest = hashlib.sha256((folder / LAST).read_bytes()).hexdigest()
    settings = {"steps": plan.steps, "checkpoint": digest}
    kept: Any = (
        json.loads(path.read_text()) if path.exists() else {"settings": settings, "rows": []}
    )
    if kept["settings"] != settings:
        raise SystemExit(f"{path}: measured with {kept['settings']}, not {settings}; remove it")
    found: Measured = {
        (row["boxes"], row["way"], row["draw"]): {key: row[key] for key in _KEYS}
        for row in kept["rows"]
    }
    for key, values in _measurements(folder / LAST, plan, set(found)):
        found[key] = values
        row = dict(zip(("boxes", "way", "draw"), key, strict=True)) | values
        kept["rows"].append(row)
        path.write_text(json.dumps(kept, indent=1))
        print(f"{folder}: {row}", flush=True)
    return found


def _measurements(
    path: Path, plan: Plan, known: set[tuple[int, str, int]]
) -> Iterator[tuple[tuple[int, str, int], dict[str, float]]]:
    due = [(0, "plain", 0)]
    for count in plan.boxes:
        due += [(count, "enrolled", draw) for draw in range(plan.draws)]
        due += [(count, "fine-tuned", draw) for draw in range(plan.tuned)]
    due = [key for key in due if key not in known]
    if not due:
        return
    checkpoint = load_checkpoint(path)
    data = config_from_dict(checkpoint["config"]).data
    model = detector_of(checkpoint, path)
    val = validation_set(data, checkpoint["classes"], [plan.name])
    few = annotated_boxes(data, plan.name)
    if few.total < max(plan.boxes):
        raise SystemExit(f"{path}: {few.total} boxes of {plan.name!r}, not {max(plan.boxes)}")
    taught = taught_classes(model, data, checkpoint["classes"]).state()["taught"]
    for count, way, draw in due:
        if way == "plain":
            changed: nn.Module = model
        elif way == "enrolled":
            classes = EnrolledClasses(taught)
            classes.add(plan.name, seen_in(some_boxes(few, count, draw), model, 0))
            changed = enroll(copy.deepcopy(model), classes)
        else:
            drawn = some_boxes(few, count, draw)
            paths = {annotation["path"] for annotation in drawn.images.annotations}
            changed = _tuned(checkpoint, data, plan.name, paths, plan.steps, draw)
        yield (count, way, draw), _measured(changed, val)


def _measured(model: nn.Module, val: DetectionDataset) -> dict[str, float]:
    """AP of the new class, which is the last, and the mean of the others'."""
    found = detect_in(val, model, _BATCH, 0)
    by_class = coco_metrics(val.annotations, found, val.classes)["AP_by_class"]
    values = [by_class[name] for name in val.classes]
    return {"AP_new": values[-1], "AP_others": float(np.mean(values[:-1]))}


def _by_seed(runs: Sequence[Measured], plan: Plan) -> Numbers:
    ways = {
        "plain": ("plain", 1),
        "enrolled": ("enrolled", plan.draws),
        _SAME: ("enrolled", plan.tuned),
        "fine-tuned": ("fine-tuned", plan.tuned),
    }
    rows = [(0, "plain")] + [(n, way) for n in plan.boxes for way in ways if way != "plain"]
    found = {}
    for (count, name), key in ((row, key) for row in rows for key in _KEYS):
        way, number = ways[name]
        if not number:
            continue
        values = [[run[count, way, draw][key] for draw in range(number)] for run in runs]
        scatter = np.mean(np.std(values, axis=1, ddof=1)) if number > 1 else np.nan
        found[count, name, key] = np.mean(values, axis=1).tolist(), float(scatter)
    return found


def _table(numbers: Mapping[str, Numbers]) -> list[list[str]]:
    rows = [["boxes", "way", "variant", *_KEYS]]
    for count, way in dict.fromkeys(key[:2] for key in next(iter(numbers.values()))):
        for name, of in numbers.items():
            cells = []
            for key in _KEYS:
                values, scatter = of[count, way, key]
                sd = "" if np.isnan(scatter) else f" ± {scatter:.3f}"
                cells.append(f"{np.mean(values):.3f}{sd}")
            rows.append([str(count), way, name, *cells])
    return rows


def _differences(numbers: Mapping[str, Numbers]) -> list[list[str]]:
    """Every variant to the first, and enrolment to fine-tuning within each."""
    first, *others = numbers
    rows = [["boxes", "difference", *_KEYS]]
    for count, way in dict.fromkeys(key[:2] for key in numbers[first]):
        pairs = [((first, way), (other, way)) for other in others]
        if way == "fine-tuned":
            pairs += [((name, way), (name, _SAME)) for name in numbers]
        for before, after in pairs:
            cells = []
            for key in _KEYS:
                a, b = (numbers[name][count, by, key][0] for name, by in (before, after))
                if len(a) < 2:
                    cells.append("–")
                    continue
                found = paired_difference(a, b)
                cells.append(f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})")
            rows.append([str(count), " - ".join(", ".join(x) for x in (after, before)), *cells])
    return rows


def _tuned(
    checkpoint: Mapping[str, Any],
    data: DataConfig,
    name: str,
    paths: set[Path],
    steps: int,
    seed: int,
) -> nn.Module:
    model, fresh = _with_a_class_more(checkpoint)
    new = _images_with(data, checkpoint["classes"], name, paths)
    known = part_of(data, "train", checkpoint["classes"])
    for dataset in (new, known):
        dataset.transform = build_transform(input_size(model), "none")
    model.train()
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key in fresh)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)  # of the boxes that torchvision samples
    device = next(model.parameters()).device
    for _ in range(steps):
        chosen = [new[int(i)] for i in draw.integers(len(new), size=_BATCH // 2)]
        chosen += [known[int(i)] for i in draw.integers(len(known), size=_BATCH // 2)]
        losses = model(*on_device(collate(chosen), device))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return model.eval()


def _images_with(
    data: DataConfig, taught: list[str], name: str, paths: set[Path]
) -> DetectionDataset:
    """These images with all boxes of the taught classes and of the new one."""
    unknown = [str(x) for x in data.unknown or []]
    whole = part_of(dataclasses.replace(data, unknown=None), "train", sorted({*taught, *unknown}))
    dataset = TaughtDataset(whole, [*taught, name], [x for x in unknown if x != name], True)
    chosen = [i for i, a in enumerate(dataset.annotations) if a["path"] in paths]
    return PooledDataset([dataset], chosen)


def _with_a_class_more(checkpoint: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """The detector without terms, and the names of its parameters that have grown."""
    config = config_from_dict(checkpoint["config"])
    config.center, config.terms = None, {}
    classes = checkpoint["builder"]["num_classes"]
    model: Any = detector(config, checkpoint["builder"] | {"num_classes": classes + 1}, load=False)
    due = model.state_dict()
    own = {key: x for key, x in checkpoint["model"].items() if key in due}
    grown = {key for key, x in own.items() if x.shape != due[key].shape}
    of_boxes = isinstance(model, GeneralizedRCNN)
    state = {key: _grown(x, classes, of_boxes) if key in grown else x for key, x in own.items()}
    model.load_state_dict(state)
    return model, grown


def _grown(rows: Tensor, classes: int, class_first: bool) -> Tensor:
    """Class rows [A, C] or [C, 4] of a layer, with the mean of all but background's behind."""
    if class_first:
        parts = rows.unflatten(0, (classes, -1))
        return torch.cat([parts, parts[1:].mean(0, keepdim=True)]).flatten(0, 1)
    parts = rows.unflatten(0, (-1, classes))
    return torch.cat([parts, parts[:, 1:].mean(1, keepdim=True)], 1).flatten(0, 1)


if __name__ == "__main__":
    main()
