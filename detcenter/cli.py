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
from collections.abc import Sequence
from importlib import import_module

from detcenter import __version__
from detcenter.errors import PersonsError, nearest
from detcenter.installed import missing_for

USAGE = """usage: detcenter COMMAND ...

  init      write a recipe:       detcenter init FOLDER
  train     train a detector:     detcenter train --config digits
  check     find bad data:        detcenter check --config digits
  audit     find wrong labels:    detcenter audit --config digits
                                  detcenter audit apply decisions.json --output FOLDER
  evaluate  measure a checkpoint: detcenter evaluate --checkpoint runs/digits/best.pth
  predict   detect in images:     detcenter predict --checkpoint runs/digits/best.pth IMAGES
  export    to ONNX and others:   detcenter export --checkpoint runs/digits/best.pth
  features  look at features:     detcenter features --checkpoint runs/digits/best.pth
  openset   meet the unknown:     detcenter openset --config digits --data.unknown "[8, 9]"
  enroll    add a class:          detcenter enroll --checkpoint runs/digits/best.pth
                                    --class NAME --images FOLDER --output new.pth
  similar   find boxes like one:  detcenter similar --checkpoint runs/digits/best.pth
                                    photo.jpg 10,20,60,80
  sweep     try several weights:  detcenter sweep --config digits_2d
  compare   does it help?         detcenter compare --config digits
                                    --set center=null --set center.weight=0.3
  report    look at it all:       detcenter report runs/digits
  pack      all in one file:      detcenter pack --config dice --output dice.lmdb
  convert   another layout:       detcenter convert --config dice --to yolo OUT
  env       what runs here:       detcenter env

`detcenter COMMAND --help` lists the options of a command, `detcenter --version` says which this is.
A recipe after --config is a YAML file, or the name of one that comes with detcenter."""

_COMMANDS = (
    *("init", "train", "check", "audit", "evaluate", "predict", "export", "features", "openset"),
    *("enroll", "similar", "sweep", "compare", "report", "pack", "convert", "env"),
)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for what a person has to put right, else 0.

    Of `check` 1 says that there are faults.
    """
    args = sys.argv[1:] if args is None else list(args)
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else 2
    if args[0] == "--version":
        print(f"detcenter {__version__}")
        return 0
    if args[0] not in _COMMANDS:
        print(f"detcenter: no command {args[0]!r}; {nearest(args[0], _COMMANDS)}", file=sys.stderr)
        return 2
    missing = None if args[0] == "env" else missing_for(f"detcenter {args[0]}")
    if missing is not None:
        print(missing, file=sys.stderr)
        return 2
    _show_remarks()
    try:
        return _run(args[0], args[1:])
    except KeyboardInterrupt as stop:
        print(f"\ndetcenter {args[0]}: stopped{stop}", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)  # as a shell has it
    except (PersonsError, OSError, RuntimeError) as error:
        message = _for_a_person(error)
        if message is None:
            raise
        print(f"detcenter {args[0]}: {message}", file=sys.stderr)
        return 2


def _run(name: str, args: list[str]) -> int:
    """Run a command, which is imported for that: most of them need torch and much else."""
    if name == "env":
        return import_module("detcenter.commands.env").main(args) or 0
    from detcenter.options.device import check_device, on_device
    from detcenter.options.help import help_page
    from detcenter.options.others import with_its_commands
    from detcenter.recipe.parsing import UnknownKey, parse_any

    # Help, and what is wrong with the arguments, do not wait for torch.
    options = import_module(f"detcenter.options.{name}")
    parser = options.parser(args)
    page = help_page(parser, options.COMMON, args)
    if page is not None:
        print(page)
        return 0
    try:
        arguments = parse_any(parser, args)
    except UnknownKey as error:
        with_options = [command for command in _COMMANDS if command != "env"]
        raise with_its_commands(error, with_options) from None
    if hasattr(options, "check"):
        options.check(arguments)
    device = arguments.get("device")
    with on_device(device):
        command = import_module(f"detcenter.commands.{name}")
        check_device(device)
        return command.main(args) or 0


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
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which may not be loaded
        return "the device's memory is full; lower train.batch_size or the size of the images"
    if isinstance(error, RuntimeError) and message.startswith("DataLoader worker"):
        return f"{' '.join(message.split())}; set data.workers to 0 to load in the main process"
    if not isinstance(error, PersonsError | OSError):
        return None
    if (
        isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError)
        and error.filename
    ):
        return f"{error.filename}: {error.strerror}"
    # An error in a worker process carries its traceback before its message.
    said = message.rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2]
    if isinstance(error, PersonsError) and error.many_lines:
        return said
    return (said.splitlines() or [type(error).__name__])[-1]
