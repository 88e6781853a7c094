"""The options of `detcenter predict`."""

from collections.abc import Sequence

from jsonargparse import Namespace

from detcenter.errors import ConfigError
from detcenter.options.device import add_device
from detcenter.recipe.config import Config
from detcenter.recipe.parsing import Parser, add_vote

COMMON = ("center.vote",)
FORMATS = ("json", "coco", "yolo")
LOWEST = 0.5
"""the score that is shown, unless told otherwise, or where a class has no best one"""


def parser(args: Sequence[str] = (), recipe: Config | None = None) -> Parser:
    parser = Parser(prog="detcenter predict", description="Detect in images and videos.")
    parser.add_argument("images", nargs="+", help="images, videos, or folders with such below")
    parser.add_argument(
        "--checkpoint", type=str, metavar="FILE", help="a .pth file of a run, or its folder"
    )
    parser.add_argument(
        "--onnx",
        type=str,
        metavar="FILE",
        help="in place of --checkpoint: a file of detcenter export",
    )
    parser.add_argument(
        "--output", type=str, metavar="FOLDER", default="predictions", help="where the results go"
    )
    parser.add_argument(
        "--threshold",
        type=str,
        metavar="SCORE",
        help=f"the lowest score that is shown, 0 to 1, {LOWEST} unless given; best: for each class "
        "that of the best F1 on the validation images",
    )
    parser.add_argument(
        "--score", type=float, metavar="SCORE", help="the same as --threshold, a number only"
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="of a video, look at every N-th frame"
    )
    parser.add_argument(
        "--format",
        type=str,
        default="json",
        help=f"format of the results: {', '.join(FORMATS)}, or several, such as json,coco",
    )
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing")
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="threads that load images, and as many that draw",
    )
    add_device(parser)
    add_vote(parser, None if recipe is None else recipe.center)
    return parser


def check(arguments: Namespace) -> None:
    if (arguments.onnx is None) == (arguments.checkpoint is None):
        raise ConfigError("give --checkpoint, or in its place --onnx, a file of detcenter export")
    if arguments.onnx is not None and arguments.device is not None:
        raise ConfigError("--device: an ONNX file runs on the CPU; leave it out")
