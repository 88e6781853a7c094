"""`detcenter export`: a checkpoint in, a file for other programs out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from detcenter.errors import ConfigError
from detcenter.export import export_onnx, export_torch, export_torchscript
from detcenter.options import export as options
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import parse
from detcenter.runs.checkpoints import checkpoint_in, classes_of, detector_of, with_vote
from detcenter.runs.published import CARD, publish, push
from detcenter.training.checkpoint import WEIGHTS

_WRITERS = {
    "onnx": export_onnx,
    "torchscript": export_torchscript,
    "torch.export": export_torch,
}
_OF_GRAPHS = ("size", "no_nms", "features")


def main(args: Sequence[str]) -> None:
    """Write the detector of ``--checkpoint`` into ``--output``."""
    checkpoint, recipe = checkpoint_in(args)
    arguments = parse(options.parser(args, recipe), args)
    path = Path(arguments.checkpoint)
    output = Path(arguments.output or path.with_suffix(options.ENDINGS[arguments.to]))
    _check(arguments, output)
    checkpoint = with_vote(checkpoint, arguments.center.vote)
    model: Any = detector_of(checkpoint, path, "cpu")  # which finds out whether it is whole
    if arguments.to == "safetensors":
        output.mkdir(parents=True, exist_ok=True)
        publish(checkpoint, output, output.resolve().name)
        print(f"{WEIGHTS} and {CARD} in {output}; detcenter.load({str(output)!r}) reads them")
        if arguments.push is not None:
            print(f"uploaded to {push(output, arguments.push)}")
        return
    model.classes = classes_of(checkpoint)
    size = None if arguments.size is None else tuple(arguments.size)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        write = _WRITERS[arguments.to]
        write(model, output, size, not arguments.no_nms, arguments.features)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--checkpoint {path}: {error}") from None
    print(f"{output}, {output.stat().st_size / 2**20:.1f} MiB; docs/export.md says how to use it")


def _check(arguments: Namespace, output: Path) -> None:
    """Before anything that takes long."""
    if arguments.to == "safetensors":
        for name in _OF_GRAPHS:
            if arguments[name]:
                option = name.replace("_", "-")
                raise ConfigError(
                    f"--{option} is for graphs, --to onnx say; safetensors are weights alone"
                )
        there = [path for path in (output / WEIGHTS, output / CARD) if path.exists()]
        if output.exists() and not output.is_dir():
            raise ConfigError(f"--output {output} is a file; name a folder")
    else:
        for package in ("onnx", "onnxscript") if arguments.to == "onnx" else ():
            need(package, "export", "writing ONNX files")
        if arguments.push is not None:
            raise ConfigError("--push uploads what --to safetensors writes")
        there = [output] if output.exists() else []
        if output.is_dir():
            raise ConfigError(f"--output {output} is a folder; name a file in it")
    if there and not arguments.overwrite:
        raise ConfigError(f"--output: {there[0]} is there already; name another, or --overwrite it")
