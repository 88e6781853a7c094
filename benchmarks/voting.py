"""What the embedding's vote costs a trained detector: milliseconds an inference, and candidates.

    python benchmarks/voting.py --checkpoint runs/digits_lab/best.pth [--batch 8] [--repeats 15]

The first validation images of the checkpoint's recipe, at the model's size. Without the vote and
with it; the two take turns, and the figures are medians.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from recording import Record
from timing import device, medians
from torch import Tensor

from detcenter import load, vote
from detcenter.data import build_transform
from detcenter.models import terms_of
from detcenter.recipe.config import config_from_dict
from detcenter.recipe.datasets import validation_set
from detcenter.runs.passes import input_size
from detcenter.training import as_floats, collate, load_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    plain: Any = vote(load(arguments.checkpoint, device()), None)
    arms = {
        "no vote": plain,
        "vote": vote(copy.deepcopy(plain), 0.5),
    }
    images = _images(plain, arguments.checkpoint, arguments.batch)
    record = Record(arguments.json)
    seconds = medians({arm: _inference(arms[arm], images) for arm in arms}, arguments.repeats)
    for arm, value in seconds.items():
        share = value / seconds["no vote"] - 1
        numbers: dict[str, float | str] = {
            "ms": 1e3 * value,
            "more": f"{share:+.1%}",
            "embedded": _embedded(arms[arm], images),
        }
        record.add(str(arguments.checkpoint), arm, **numbers)


def _images(model: Any, path: Path, count: int) -> list[Tensor]:
    dataset = validation_set(config_from_dict(load_checkpoint(path)["config"]).data, model.classes)
    dataset.transform = build_transform(input_size(model), "none")
    return as_floats(collate([dataset[i] for i in range(count)])[0], device())


def _inference(model: Any, images: list[Tensor]) -> Callable[[], None]:
    @torch.inference_mode()
    def infer() -> None:
        model(images)

    return infer


def _embedded(model: Any, images: list[Tensor]) -> float:
    """How many boxes of the batch are embedded."""
    counts: list[int] = []
    projections: Any = terms_of(model)["embedding"].projections
    hooks = [
        f.register_forward_hook(lambda _, x, __: counts.append(len(x[0]))) for f in projections
    ]
    _inference(model, images)()
    for hook in hooks:
        hook.remove()
    return float(sum(counts))


if __name__ == "__main__":
    main()
