"""The options of `detcenter sweep`."""

from collections.abc import Sequence

from jsonargparse import Namespace

from detcenter.errors import ConfigError
from detcenter.options.device import add_device
from detcenter.options.launching import add_launching
from detcenter.recipe.parsing import Parser, recipe_parser

COMMON = (
    *("data.root", "center.normalize", "center.alpha", "center.embedding_weight"),
    *("train.epochs", "train.batch_size", "train.lr", "train.seed", "output"),
)
_WEIGHTS = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0)  # 0, the paper's, and more


def parser(args: Sequence[str] = ()) -> Parser:
    parser = recipe_parser(
        "detcenter sweep",
        "Train a recipe at several weights of the center loss, on features of two dimensions, and "
        "draw these.",
    )
    parser.add_argument(
        "--weights",
        type=list[float],
        metavar="LIST",
        default=list(_WEIGHTS),
        help="the weights of the center loss, such as [0, 0.01]",
    )
    add_launching(parser)
    add_device(parser)
    return parser


def check(arguments: Namespace) -> None:
    if not arguments.config:
        raise ConfigError("--config FILE is missing: the recipe, such as digits_2d")
