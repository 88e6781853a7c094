"""The options of `detcenter compare`."""

from collections.abc import Sequence

from jsonargparse import Namespace

from detcenter.errors import ConfigError
from detcenter.options.device import add_device
from detcenter.options.launching import add_launching
from detcenter.recipe.parsing import Parser, recipe_parser

COMMON = (
    *("data.root", "data.digits.seed", "train.epochs", "train.batch_size", "train.lr"),
    *("train.seed", "evaluation.max_detections", "output"),
)


def parser(args: Sequence[str] = ()) -> Parser:
    parser = recipe_parser(
        "detcenter compare", "Train variants of a recipe with several seeds, and compare them."
    )
    parser.add_argument(
        "--set",
        type=str,
        action="append",
        metavar="VARIANT",
        help="a variant: [NAME:] KEY=VALUE ..., quoted if several; recipe for the recipe as it is",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="runs of each variant; 6 unless given, or 1 for each value of --vary",
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="cut data.train and data.val into this many parts instead of taking several seeds",
    )
    add_launching(parser)
    parser.add_argument(
        "--vary",
        type=str,
        metavar="KEY=VALUES",
        help="KEY=1..8 or KEY=A,B,C: data sets, say, which are then paired in place of the seeds",
    )
    parser.add_argument(
        "--baseline",
        type=str,
        metavar="VARIANT",
        help="the variant that all others are judged against; the first unless given",
    )
    parser.add_argument(
        "--equivalence",
        type=float,
        metavar="POINTS",
        help="points of AP; say so where a difference is surely smaller",
    )
    parser.add_argument(
        "--runs", nargs="+", metavar="FOLDER", help="compare these finished runs instead"
    )
    parser.add_argument(
        "--pool", nargs="+", metavar="FILE", help="put these compare.json together instead"
    )
    parser.add_argument(
        "--pair",
        nargs=2,
        metavar="VARIANT",
        help="the two variants that --pool compares, the baseline first",
    )
    parser.add_argument(
        "--same-validation",
        nargs="+",
        metavar="FILE",
        help="files of --pool that share their validation data",
    )
    add_device(parser)
    return parser


def check(arguments: Namespace) -> None:
    others = arguments.runs or arguments.pool or arguments.pair or arguments.same_validation
    if not (arguments.config or others):
        raise ConfigError("--config FILE or --runs FOLDER ... is missing: what is compared")
