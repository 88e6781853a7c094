"""`detcenter export`: a checkpoint in, a file for other programs out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from detcenter.errors import ConfigError
from detcenter.export import export_onnx, export_torch, export_torchscript
from detcenter.recipe.config import config_from_dict
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import add_vote, parse, plain_parser
from detcenter.runs.checkpoints import checkpoint_in, classes_of, detector_of, with_vote
from detcenter.runs.published import CARD, publish, push
from detcenter.training.checkpoint import WEIGHTS

_ENDINGS = {"onnx": ".onnx", "torchscript": ".ts", "torch.export": ".pt2", "safetensors": ""}
_WRITERS = {
    "onnx": export_onnx,
    "torchscript": export_torchscript,
    "torch.export": export_torch,
}
_OF_GRAPHS = ("size", "no_nms", "features")


def main(args: Sequence[str]) -> None:
    """Write the detector of ``--checkpoint`` into ``--output``."""
    checkpoint, _ = checkpoint_in(args)
    arguments = parse(_parser(checkpoint), args)
    path = Path(arguments.checkpoint)
    output = Path(arguments.output or path.with_suffix(_ENDINGS[arguments.to]))
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


def _parser(checkpoint: Mapping[str, Any]) -> ArgumentParser:
    parser = plain_parser("detcenter export", "Write a detector as a file for other programs.")
    parser.add_argument("--checkpoint", type=str, required=True, help="a .pth file of a run")
    parser.add_argument(
        "--to",
        choices=[*_ENDINGS],
        default="onnx",
        help="the format; of safetensors with a model card",
    )
    parser.add_argument(
        "--output", type=str, help="the file, of safetensors the folder; beside it unless given"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --output if it is there")
    parser.add_argument(
        "--push", type=str, metavar="USER/NAME", help="upload safetensors and card to a hub too"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of the images, for a model that keeps their shape; a square for all unless given",
    )
    parser.add_argument(
        "--no-nms", action="store_true", help="give all boxes, and drop none for better ones"
    )
    parser.add_argument(
        "--features",
        action="store_true",
        help="give the features of the boxes, and the unknown score if the checkpoint has one",
    )
    add_vote(parser, config_from_dict(checkpoint["config"]).center if checkpoint else None)
    return parser


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
