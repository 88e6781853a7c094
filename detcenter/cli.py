"""The command line: `detcenter init | train | check | evaluate | predict | features | ...`."""

import os

# OpenMP reads once, when torch loads it, how its threads wait for each other. By default they spin,
# on cores that loading processes and other trainings need. Whoever has set this has chosen.
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# ruff: noqa: E402
import logging
import signal
import sys
from collections.abc import Callable, Sequence

import torch

from detcenter.commands import (
    audit,
    check,
    compare,
    convert,
    enroll,
    evaluate,
    features,
    init,
    openset,
    pack,
    predict,
    report,
    similar,
    sweep,
    train,
)
from detcenter.data import DataError
from detcenter.errors import ConfigError
from detcenter.models import WeightsError
from detcenter.training import CheckpointError, TrainingError

USAGE = """usage: detcenter COMMAND ...

  init      write a recipe:       detcenter init FOLDER
  train     train a detector:     detcenter train --config configs/digits.yaml
  check     find bad data:        detcenter check --config configs/digits.yaml
  audit     find wrong labels:    detcenter audit --config configs/digits.yaml
                                  detcenter audit apply decisions.json --output FOLDER
  evaluate  measure a checkpoint: detcenter evaluate --checkpoint runs/digits/best.pth
  predict   detect in images:     detcenter predict --checkpoint runs/digits/best.pth IMAGES
  features  look at features:     detcenter features --checkpoint runs/digits/best.pth
  similar   find boxes like one:  detcenter similar --checkpoint runs/digits/best.pth
                                    photo.jpg 10,20,60,80
  openset   meet the unknown:     detcenter openset --config configs/digits.yaml
                                    --data.unknown "[8, 9]"
  enroll    add a class:          detcenter enroll --checkpoint runs/digits/best.pth
                                    --class NAME --images FOLDER --output new.pth
  sweep     try several weights:  detcenter sweep --config configs/digits_2d.yaml
  compare   does it help?         detcenter compare --config configs/digits.yaml
                                    --set center=null --set center.weight=0.3
  report    look at it all:       detcenter report runs/digits
  pack      all in one file:      detcenter pack --config configs/dice.yaml --output dice.lmdb
  convert   another layout:       detcenter convert --config configs/dice.yaml --to yolo OUT

`detcenter COMMAND --help` lists the options of a command."""

_PERSONS_ERRORS = (ConfigError, DataError, WeightsError, CheckpointError, TrainingError, OSError)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for what a person has to put right, else 0.

    Of `check` 1 says that there are faults.
    """
    args = sys.argv[1:] if args is None else list(args)
    commands: dict[str, Callable[[Sequence[str]], int | None]] = {
        "init": init.main,
        "train": train.main,
        "check": check.main,
        "audit": audit.main,
        "evaluate": evaluate.main,
        "predict": predict.main,
        "features": features.main,
        "similar": similar.main,
        "openset": openset.main,
        "enroll": enroll.main,
        "sweep": sweep.main,
        "compare": compare.main,
        "report": report.main,
        "pack": pack.main,
        "convert": convert.main,
    }
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else 2
    if args[0] not in commands:
        known = ", ".join(commands)
        print(f"detcenter: no command {args[0]!r}; there are {known}", file=sys.stderr)
        return 2
    _show_remarks()
    try:
        return commands[args[0]](args[1:]) or 0
    except KeyboardInterrupt as stop:
        print(f"\ndetcenter {args[0]}: stopped{stop}", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)  # as a shell has it
    except (*_PERSONS_ERRORS, RuntimeError) as error:
        message = _for_a_person(error)
        if message is None:
            raise
        print(f"detcenter {args[0]}: {message}", file=sys.stderr)
        return 2


def _show_remarks() -> None:
    """What the package says on the way, a line each, on the standard error of now."""
    logger = logging.getLogger("detcenter")
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)


def run() -> None:
    """The installed command `detcenter`."""
    sys.exit(main())


def _for_a_person(error: Exception) -> str | None:
    """What to tell the person, one line or a list of faults; None for an error not theirs."""
    message = str(error).strip()
    if isinstance(error, torch.OutOfMemoryError):
        return "the device's memory is full; lower train.batch_size or the size of the images"
    if isinstance(error, RuntimeError) and message.startswith("DataLoader worker"):
        return f"{' '.join(message.split())}; set data.workers to 0 to load in the main process"
    if not isinstance(error, _PERSONS_ERRORS):
        return None
    if (
        isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError)
        and error.filename
    ):
        return f"{error.filename}: {error.strerror}"
    # An error in a worker process carries its traceback before its message.
    said = message.rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2]
    if isinstance(error, DataError):
        return said
    return (said.splitlines() or [type(error).__name__])[-1]
