"""The options of `detcenter export`."""

from collections.abc import Sequence

from detcenter.recipe.config import Config
from detcenter.recipe.parsing import Parser, add_vote

COMMON = ("center.vote",)
ENDINGS = {"onnx": ".onnx", "torchscript": ".ts", "torch.export": ".pt2", "safetensors": ""}


def parser(args: Sequence[str] = (), recipe: Config | None = None) -> Parser:
    about = "Write a detector as a file for other programs."
    parser = Parser(prog="detcenter export", description=about)
    parser.add_argument(
        "--checkpoint", type=str, metavar="FILE", required=True, help="a .pth file of a run"
    )
    parser.add_argument(
        "--to",
        choices=[*ENDINGS],
        default="onnx",
        help="format of the file; of safetensors a folder, with a model card",
    )
    parser.add_argument(
        "--output",
        type=str,
        metavar="FILE",
        help="the file to write, or the folder of safetensors; beside the checkpoint unless given",
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
        help="size of images, for a model that keeps their shape; a square for all unless given",
    )
    parser.add_argument(
        "--no-nms", action="store_true", help="give all boxes, and drop none for better ones"
    )
    parser.add_argument(
        "--features",
        action="store_true",
        help="give the features of the boxes, and the unknown score if the checkpoint has one",
    )
    add_vote(parser, None if recipe is None else recipe.center)
    return parser
