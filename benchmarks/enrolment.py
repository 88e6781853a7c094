"""A class that was left out of training, enrolled by few boxes: its AP, and what the others lose.

    python benchmarks/enrolment.py --checkpoint runs/known/last.pth --class 8 \
        [--boxes 1 5 10] [--draws 10] [--steps 200] [--json FILE]

The class is one of data.unknown of the checkpoint's recipe. Boxes are drawn of data.train, again
for every draw; AP is COCO's on data.val. Beside it, on the same boxes: the detector with one class
more, of which the layers that give class logits (and an R-CNN's boxes) are trained for --steps
steps, all else at rest. A batch has four images with a drawn box, where all boxes of the class are
annotated, and four images of the taught classes. The rows of the new class begin as the mean of the
others'.
"""

import argparse
import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import Record
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from detcenter import EnrolledClasses, enroll
from detcenter.data import DetectionDataset, PooledDataset, TaughtDataset, build_transform
from detcenter.evaluation import coco_metrics
from detcenter.recipe.config import DataConfig, config_from_dict
from detcenter.recipe.datasets import part_of, validation_set
from detcenter.recipe.detectors import detector
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.enrolment import annotated_boxes, seen_in, some_boxes, taught_classes
from detcenter.runs.passes import detect_in, input_size
from detcenter.training import collate, load_checkpoint, on_device

_BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--class", dest="name", required=True, help="one of data.unknown")
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 5, 10])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning; 0: none of it")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint)
    data = config_from_dict(checkpoint["config"]).data
    model = detector_of(checkpoint, arguments.checkpoint)
    val = validation_set(data, checkpoint["classes"], [arguments.name])
    record = Record(arguments.json)
    record.add("no box", "plain", **_measured(model, val))
    few = annotated_boxes(data, arguments.name)
    taught = taught_classes(model, data, checkpoint["classes"]).state()["taught"]
    for count in arguments.boxes:
        found: dict[str, list[dict[str, float]]] = {"enrolled": [], "fine-tuned": []}
        for draw in range(arguments.draws):
            drawn = some_boxes(few, count, draw)
            classes = EnrolledClasses(taught)
            classes.add(arguments.name, seen_in(drawn, model, 0))
            found["enrolled"].append(_measured(enroll(copy.deepcopy(model), classes), val))
            if arguments.steps:
                paths = {annotation["path"] for annotation in drawn.images.annotations}
                tuned = _tuned(checkpoint, data, arguments.name, paths, arguments.steps, draw)
                found["fine-tuned"].append(_measured(tuned, val))
        for arm, rows in found.items():
            if rows:
                record.add(f"{count} boxes, {len(rows)} draws", arm, **_summary(rows))


def _measured(model: nn.Module, val: DetectionDataset) -> dict[str, float]:
    """AP of the new class, which is the last, and the mean of the others'."""
    found = detect_in(val, model, _BATCH, 0)
    by_class = coco_metrics(val.annotations, found, val.classes)["AP_by_class"]
    values = [by_class[name] for name in val.classes]
    return {"AP_new": values[-1], "AP_others": float(np.mean(values[:-1]))}


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    values = {key: [row[key] for row in rows] for key in rows[0]}
    means = {key: float(np.mean(x)) for key, x in values.items()}
    scatter = {f"{key}_sd": float(np.std(x, ddof=1)) for key, x in values.items() if len(x) > 1}
    return means | scatter


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
