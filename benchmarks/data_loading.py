"""What loading costs: images a second from a folder, from an LMDB file and into a training step.

    python benchmarks/data_loading.py --config configs/dice.yaml [--repeats 5]
        [--workers "[0, 2]"] [--json FILE]

A pass loads and augments every training image of the recipe once, as an epoch does. The arms take
turns, so that what else the machine does falls on all of them; the figures are medians. "training"
is the recipe's detector on a batch in memory: where loading is not well above it, training waits.
Files that were read before are in the machine's memory; from a cold disk the arms differ more.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import device, heading, medians, written
from torch import nn
from torch.utils.data import DataLoader

from detcenter.data import DetectionDataset, LMDBDataset, write_lmdb
from detcenter.recipe.config import Config
from detcenter.recipe.datasets import training_set
from detcenter.recipe.detectors import builder_arguments, detector
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs.passes import augmentation
from detcenter.training import as_floats, collate


def main() -> None:
    parser = recipe_parser("data_loading.py", "Images a second, from a folder and an LMDB file.")
    parser.add_argument("--repeats", type=int, default=5, help="passes of each arm")
    parser.add_argument("--workers", type=list[int], default=[0, 2], help="processes that load")
    parser.add_argument("--json", type=str, help="write the figures to this file too")
    config, arguments = parse_recipe(parser, sys.argv[1:])
    folder = training_set(config.data)
    model = detector(config, builder_arguments(config.model, folder.classes), 1).to(device())
    if config.train.channels_last:
        model.to(memory_format=torch.channels_last)
    print(heading())
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "packed.lmdb"
        write_lmdb(file, {"train": folder}, config.data.root)
        sets = {"folder": folder, "lmdb": LMDBDataset(file, "train")}
        speeds = _measure(config, model, sets, arguments.workers, arguments.repeats)
    rows = [{"arm": arm, "images_a_second": speed} for arm, speed in speeds.items()]
    written(Path(arguments.json) if arguments.json else None, rows)


def _measure(
    config: Config,
    model: nn.Module,
    sets: dict[str, DetectionDataset],
    workers: list[int],
    repeats: int,
) -> dict[str, float]:
    """Images a second by arm, and of training."""
    count, size = len(sets["folder"]), config.train.batch_size
    for dataset in sets.values():
        dataset.transform = augmentation(config.data.augment, model)
    passes = {
        f"{name}, {number} workers": _pass(dataset, size, number)
        for number in workers
        for name, dataset in sets.items()
    }
    speeds = {arm: count / seconds for arm, seconds in medians(passes, repeats).items()}
    batch = next(iter(DataLoader(sets["folder"], size, collate_fn=collate)))
    step = {"training": _training_step(model, batch)}
    training = len(batch[0]) / medians(step, 2 * repeats)["training"]
    speeds["training"] = training
    print(f"{count} images, batches of {size}")
    print(f"{'':18} {'images/s':>9} {'against training':>17}")
    for arm, speed in speeds.items():
        print(f"{arm:18} {speed:9.1f} {speed / training:16.1f}x")
    return speeds


def _pass(dataset: DetectionDataset, batch_size: int, workers: int) -> Callable[[], None]:
    loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, collate_fn=collate)

    def load_all() -> None:
        for _ in loader:
            pass

    return load_all


def _training_step(model: nn.Module, batch: tuple[Any, Any]) -> Callable[[], None]:
    images = as_floats(batch[0], device())
    targets = [
        {"boxes": t["boxes"].to(device()), "labels": t["labels"].to(device())} for t in batch[1]
    ]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)
    model.train()

    def step() -> None:
        sum(model(images, targets).values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
