"""`detcenter train`: a recipe in, a run folder out."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from detcenter.options import train as options
from detcenter.recipe.parsing import parse_recipe
from detcenter.runs.folder import has_checkpoint
from detcenter.runs.run import train


def main(args: Sequence[str]) -> None:
    """Train, and say how to go on if that is stopped."""
    config, arguments = parse_recipe(options.parser(), args)
    if config.output is None:
        config.output = f"runs/{Path(str(arguments.config[-1])).stem}"
    folder = Path(config.output)
    try:
        train(config, folder, arguments.resume, arguments.overwrite)
    except KeyboardInterrupt as stop:
        stop.args = (_how_to_go_on(args, folder),)
        raise


def _how_to_go_on(args: Sequence[str], folder: Path) -> str:
    if not has_checkpoint(folder):
        return " before anything was saved; nothing to continue from"
    command = shlex.join(arg for arg in args if arg not in ("--resume", "--overwrite"))
    tool = f"python {sys.argv[0]}" if sys.argv[0].endswith("train.py") else "detcenter train"
    return f"; continue with: {tool} {command} --resume"
