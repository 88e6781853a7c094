"""The command line: `detcenter train | evaluate | predict`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from detcenter.config import ConfigError, parse_recipe, recipe_parser
from detcenter.data import DataError
from detcenter.models import WeightsError
from detcenter.training import CheckpointError, TrainingError

USAGE = """usage: detcenter COMMAND ...

  train     train a detector:    detcenter train --config configs/digits.yaml
  evaluate  measure a checkpoint: detcenter evaluate --checkpoint runs/digits/best.pth
  predict   detect in images:    detcenter predict --checkpoint runs/digits/best.pth IMAGES

`detcenter COMMAND --help` lists the options of a command."""

_PERSONS_ERRORS = (ConfigError, DataError, WeightsError, CheckpointError, TrainingError, OSError)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status, 2 for what a person has to put right."""
    args = sys.argv[1:] if args is None else list(args)
    commands = {"train": _train, "evaluate": _evaluate, "predict": _predict}
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else 2
    if args[0] not in commands:
        print(
            f"detcenter: no command {args[0]!r}; there are {', '.join(commands)}", file=sys.stderr
        )
        return 2
    try:
        commands[args[0]](args[1:])
    except _PERSONS_ERRORS as error:
        print(f"detcenter {args[0]}: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ndetcenter {args[0]}: stopped{_how_to_go_on(args)}", file=sys.stderr)
        return 130
    return 0


def run() -> None:
    """The installed command `detcenter`."""
    sys.exit(main())


def _train(args: Sequence[str]) -> None:
    from detcenter.commands.train import train  # accelerate and tensorboard take seconds to import

    parser = recipe_parser("detcenter train", "Train a detector as a recipe says.")
    parser.add_argument("--resume", action="store_true", help="continue the run in --output")
    parser.add_argument("--overwrite", action="store_true", help="delete a run that is in --output")
    config, namespace = parse_recipe(parser, args)
    if config.output is None:
        recipes = namespace.config or []
        name = Path(str(recipes[-1])).stem if recipes else "detcenter"
        config.output = str(Path("runs") / name)
    train(config, namespace.resume, namespace.overwrite)


def _evaluate(args: Sequence[str]) -> None:
    from detcenter.commands.evaluate import main as evaluate

    evaluate(args)


def _predict(args: Sequence[str]) -> None:
    from detcenter.commands.predict import main as predict

    predict(args)


def _one_line(error: Exception) -> str:
    """The message; of an error in a worker process the last line, behind its traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].removeprefix(f"{type(error).__module__}.{type(error).__qualname__}: ")


def _how_to_go_on(args: Sequence[str]) -> str:
    if args[0] != "train":
        return ""
    command = " ".join(arg for arg in args if arg not in ("--resume", "--overwrite"))
    return f"; continue from the last whole epoch with: detcenter {command} --resume"
