"""What the trainer's loop costs around the model: CPU seconds a step outside of it.

    python benchmarks/loop.py --config configs/digits.yaml [--steps 20] [--repeats 5] [--json FILE]

The recipe is trained as `detcenter train` does, on a batch in memory. Outside is all but the
model's forward and backward pass and the optimizer's step: seeding, the batch to the device,
looking at the losses, clipping, averaging, the schedule, the progress bar. It depends on the number
of parameters, hardly on the size of the images: `--model.image_size 64` is measured sooner. The
arms, each an option of the recipe, take turns; the figures are medians of a step's mean.
"""

import contextlib
import copy
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from timing import heading, written

from detcenter.recipe.config import Config
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs.run import Run
from detcenter.training import StopRequest, stop_request

ARMS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "clip_grad_norm": {"clip_grad_norm": 10.0},
    "ema": {"ema": 0.999},
    "on_nan: skip": {"on_nan": "skip"},
    "accumulate: 2": {"accumulate": 2},
}


class Step(NamedTuple):
    """Seconds: of the clock, of the CPU, and of the CPU outside of the model."""

    wall: float
    cpu: float
    outside: float


class Inside:
    """Adds up the CPU seconds inside of what is timed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed_call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return call(*args, **kwargs)

        return timed_call

    def __enter__(self) -> None:
        self.seconds -= time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time()


def main() -> None:
    parser = recipe_parser("loop.py", "What the trainer's loop costs around the model.")
    parser.add_argument("--steps", type=int, default=20, help="of a repeat")
    parser.add_argument("--repeats", type=int, default=5, help="of each arm")
    parser.add_argument("--json", type=str, help="write the figures to this file too")
    config, arguments = parse_recipe(parser, sys.argv[1:])
    print(heading())
    with TemporaryDirectory() as place, stop_request() as request:
        runs = {arm: prepared(config, Path(place) / str(i), arm) for i, arm in enumerate(ARMS)}
        found: dict[str, list[Step]] = {arm: [] for arm in ARMS}
        for _ in range(arguments.repeats + 1):
            for arm, (run, inside) in runs.items():
                found[arm].append(measured(run, inside, arguments.steps, request))
    rows = [row(arm, of[1:]) for arm, of in found.items()]  # the first warms up
    print(f"{'':15} {'step':>10} {'of the CPU':>11} {'outside':>10} {'of the step':>12}")
    for of in rows:
        milliseconds = "{wall_s:7.1f} ms {cpu_s:8.1f} ms {outside_s:7.2f} ms".format(
            **{key: 1000 * value for key, value in of.items() if key.endswith("_s")}
        )
        print(f"{of['arm']:15} {milliseconds} {of['share']:11.1%}")
    written(Path(arguments.json) if arguments.json else None, rows)


def prepared(config: Config, folder: Path, arm: str) -> tuple[Run, Inside]:
    config = copy.deepcopy(config)
    for key, value in ARMS[arm].items():
        setattr(config.train, key, value)
    with contextlib.redirect_stdout(io.StringIO()):
        run = Run(config, folder, resume=False, overwrite=False)
    inside = Inside()
    run.parallel.forward = inside.timed(run.parallel.forward)  # type: ignore[method-assign]
    run.accelerator.backward = inside.timed(run.accelerator.backward)  # type: ignore[method-assign]
    optimizer = run.state.optimizer.optimizer
    optimizer.register_step_pre_hook(lambda *_: inside.__enter__())
    optimizer.register_step_post_hook(lambda *_: inside.__exit__())
    loader: Any = run.loader
    run.loader = [next(iter(loader))]  # type: ignore[assignment]
    return run, inside


def measured(run: Run, inside: Inside, steps: int, request: StopRequest) -> Step:
    loader: Any = run.loader
    run.loader = loader[:1] * (steps * run.config.train.accumulate)
    inside.seconds, run.state.step = 0.0, 0
    wall, cpu = time.perf_counter(), time.process_time()
    run._train(1, request)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Step(wall / steps, cpu / steps, (cpu - inside.seconds) / steps)


def row(arm: str, found: list[Step]) -> dict[str, Any]:
    wall, cpu, outside = (statistics.median(column) for column in zip(*found, strict=True))
    # Of what is less: on a busy machine the clock runs on, several threads add up.
    share = statistics.median(step.outside / min(step.wall, step.cpu) for step in found)
    return {"arm": arm, "wall_s": wall, "cpu_s": cpu, "outside_s": outside, "share": share}


if __name__ == "__main__":
    main()
