"""The options of `detcenter openset`."""

from collections.abc import Sequence

from jsonargparse import Namespace

from detcenter.errors import ConfigError
from detcenter.options.device import add_device
from detcenter.recipe.config import Config
from detcenter.recipe.parsing import Parser, data_parser, recipe_parser

COMMON = (
    *("data.unknown", "data.keep_unknown_images", "data.root", "data.workers"),
    *("train.epochs", "train.seed", "output"),
)
WAYS = ("centers", "mahalanobis", "neighbours", "softmax", "logit", "energy")
_ABOUT = "What a detector makes of objects of classes that it was not taught (data.unknown)."


def parser(args: Sequence[str] = (), recipe: Config | None = None) -> Parser:
    """Of a checkpoint with this ``recipe``; without one, of a recipe that is trained."""
    if recipe is None:
        parser = recipe_parser("detcenter openset", _ABOUT)
    else:
        parser = data_parser("detcenter openset", _ABOUT, recipe.data)
    parser.add_argument(
        "--checkpoint",
        type=str,
        metavar="FILE",
        required=recipe is not None,
        help="a .pth file of a run, in the place of --config",
    )
    parser.add_argument(
        "--by",
        type=str,
        metavar="WAY",
        default="centers",
        help=f"how the checkpoint of --save tells what is unknown: {', '.join(WAYS)}",
    )
    parser.add_argument(
        "--lose",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="the share of rightly detected objects that may be taken for unknown",
    )
    parser.add_argument(
        "--score",
        type=float,
        default=0.05,
        help="detections of a lower score are passed over, as in the public code",
    )
    parser.add_argument(
        "--json", type=str, metavar="FILE", help="write the numbers to this file as JSON"
    )
    parser.add_argument(
        "--save",
        type=str,
        metavar="FILE",
        help="write the checkpoint, with what tells unknown objects, to this file",
    )
    add_device(parser)
    return parser


def check(arguments: Namespace) -> None:
    if not (arguments.config or arguments.checkpoint):
        raise ConfigError("--config FILE is missing, a recipe to train; or --checkpoint FILE")
