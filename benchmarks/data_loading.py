"""What loading costs: images a second and processor time an image, part by part.

    python benchmarks/data_loading.py --config configs/dice.yaml [--repeats 5]
        [--workers "[0, 2]"] [--json FILE]

- folder, lmdb, ram: a pass over all training images, loaded and augmented as in an epoch; from a
  folder, from an LMDB file, and with `data.cache: ram` after the first pass.
- carried: batches of images that are there already, from one loading process, every image and
  target a tensor of its own (apart) or as the trainer does it (packed).
- photos: JPEGs of 4000x3000, made up, brought to the model's size; whole or with `data.draft`.
- training: the recipe's detector on a batch in memory. Where loading is not well above it, training
  waits. Its OpenMP threads wait asleep, as in `detcenter train`, or spinning, as without it.

The arms of a part take turns, so that what else the machine does falls on all of them; the figures
are medians. Processor time holds on a busy machine too. Files that were read before are in the
machine's memory; from a cold disk the arms differ more.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import device, heading, written
from torch import nn
from torch.utils.data import DataLoader

from detcenter.data import DetectionDataset, LMDBDataset, fitting, write_lmdb
from detcenter.recipe.config import Config
from detcenter.recipe.datasets import training_set
from detcenter.recipe.detectors import builder_arguments, detector
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs.passes import augmentation
from detcenter.training import collate, on_device

_PHOTOS = 6
_STEPS = "_DETCENTER_BENCHMARK_STEPS"  # set in a process that only times training

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

Row = dict[str, Any]


def main() -> None:
    parser = recipe_parser("data_loading.py", "What loading costs, part by part.")
    parser.add_argument("--repeats", type=int, default=5, help="passes of each arm")
    parser.add_argument("--workers", type=list[int], default=[0, 2], help="processes that load")
    parser.add_argument("--json", type=str, help="write the figures to this file too")
    config, arguments = parse_recipe(parser, sys.argv[1:])
    dataset = training_set(config.data)
    model = detector(config, builder_arguments(config.model, dataset.classes), 1).to(device())
    if config.train.channels_last:
        model.to(memory_format=torch.channels_last)
    dataset.transform = augmentation(config.data.augment, model)
    if _STEPS in os.environ:
        print(json.dumps(_steps(config, model, dataset, arguments.repeats)))
        return
    print(heading())
    print(f"{len(dataset)} images, batches of {config.train.batch_size}")
    print(f"{'':28} {'images/s':>9} {'processor ms/image':>19}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        for part in _parts(config, dataset, Path(place), arguments):
            for row in part:
                print(
                    f"{row['arm']:28} {row['images_a_second']:9.1f} {row['cpu_ms']:19.2f}",
                    flush=True,
                )
            rows += part
            written(Path(arguments.json) if arguments.json else None, rows)


def _parts(
    config: Config, dataset: DetectionDataset, place: Path, arguments: Any
) -> Iterator[list[Row]]:
    size, repeats = config.train.batch_size, arguments.repeats
    sets = _sets(config, dataset, place)
    for workers in arguments.workers:
        arms = {f"{name}, {workers} workers": _pass(of, size, workers) for name, of in sets.items()}
        yield _measured(arms, len(dataset), repeats)
    items = [dataset[i % len(dataset)] for i in range(20 * size)]
    collates: dict[str, Any] = {"carried apart": _apart, "carried packed": collate}
    arms = {name: _pass(items, size, 1, how) for name, how in collates.items()}
    yield _measured(arms, len(items), repeats)
    photos = _photos(dataset, place)
    arms = {f"photos, {name}": _pass(of, size, 0) for name, of in photos.items()}
    yield _measured(arms, _PHOTOS, repeats)
    yield _training(repeats)


def _sets(config: Config, dataset: DetectionDataset, place: Path) -> dict[str, Any]:
    file, memory = place / "packed.lmdb", place / "ram"
    memory.mkdir()
    write_lmdb(file, {"train": dataset}, config.data.root)
    packed, kept = LMDBDataset(file, "train"), training_set(config.data)
    for other in (packed, kept):
        other.transform = dataset.transform
    kept.keep(memory, fitting(memory, [kept.decoding(i) for i in range(len(kept))])[0])
    return {"folder": dataset, "lmdb": packed, "ram": kept}


def _photos(dataset: DetectionDataset, place: Path) -> dict[str, DetectionDataset]:
    rng, annotations = np.random.default_rng(0), []
    for number in range(_PHOTOS):
        small = Image.fromarray(rng.integers(0, 256, (75, 100, 3), dtype=np.uint8))
        path = place / f"{number}.jpg"
        small.resize((4000, 3000), Image.Resampling.BICUBIC).save(path, quality=90)
        sides: Any = {"path": path, "width": 4000, "height": 3000}
        annotations.append(dataset.annotations[0] | sides)
    made = {}
    for name, draft in (("whole", False), ("draft", True)):
        made[name] = DetectionDataset(annotations, dataset.classes, dataset.transform)
        made[name].draft = draft
    return made


def _measured(arms: dict[str, Callable[[], None]], count: int, repeats: int) -> list[Row]:
    """Medians of alternating passes over ``count`` images, after one to warm up."""
    costs: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for _ in range(repeats + 1):
        for arm, run in arms.items():
            start, before = time.perf_counter(), _cpu()
            run()
            costs[arm].append((time.perf_counter() - start, _cpu() - before))
    return [_row(arm, count, taken[1:]) for arm, taken in costs.items()]


def _row(arm: str, count: int, costs: list[tuple[float, float]]) -> Row:
    seconds, cpu = (statistics.median(of) for of in zip(*costs, strict=True))
    return {"arm": arm, "images_a_second": count / seconds, "cpu_ms": 1e3 * cpu / count}


def _cpu() -> float:
    """Seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def _pass(dataset: Any, size: int, workers: int, how: Any = collate) -> Callable[[], None]:
    def load_all() -> None:
        # A loader of its own, whose processes end, and are counted, with the pass.
        for _ in DataLoader(dataset, size, num_workers=workers, collate_fn=how):
            pass

    return load_all


def _apart(items: list[Any]) -> tuple[list[Any], list[Any]]:
    return [image for image, _ in items], [target for _, target in items]


def _training(repeats: int) -> list[Row]:
    """In processes of their own: OpenMP looks up once how to wait."""
    costs: dict[str, list[tuple[float, float]]] = {"asleep": [], "spinning": []}
    count = 1
    for _ in range(max(1, repeats // 2)):
        for arm, policy in (("asleep", "PASSIVE"), ("spinning", None)):
            plain = {k: v for k, v in os.environ.items() if k not in _WAITING}
            chosen = {_STEPS: "1"} | ({"OMP_WAIT_POLICY": policy} if policy else {})
            command = [sys.executable, *sys.argv]
            said = subprocess.run(command, env=plain | chosen, stdout=subprocess.PIPE, check=True)
            count, taken = json.loads(said.stdout.splitlines()[-1])
            costs[arm] += taken
    return [_row(f"training, {arm}", count, taken) for arm, taken in costs.items()]


def _steps(
    config: Config, model: nn.Module, dataset: DetectionDataset, repeats: int
) -> tuple[int, list[tuple[float, float]]]:
    """Images of a step; seconds and processor seconds of each, after one to warm up."""
    batch = next(iter(DataLoader(dataset, config.train.batch_size, collate_fn=collate)))
    images, targets = on_device(batch, device())
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)
    model.train()
    costs = []
    for _ in range(2 * repeats + 1):
        start, before = time.perf_counter(), _cpu()
        sum(model(images, targets).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        costs.append((time.perf_counter() - start, _cpu() - before))
    return len(images), costs[1:]


if __name__ == "__main__":
    main()
