"""The options of `detcenter audit` and `detcenter audit apply`."""

import argparse
from collections.abc import Sequence

from jsonargparse import Namespace

from detcenter.errors import ConfigError
from detcenter.options.device import add_device
from detcenter.options.launching import add_launching
from detcenter.recipe.parsing import Parser, recipe_parser

COMMON = (
    *("data.root", "data.train", "data.val", "model.name", "center", "train.epochs"),
    *("train.batch_size", "train.lr", "train.seed", "output"),
)


def parser(args: Sequence[str] = ()) -> Parser:
    return apply_parser() if args[:1] == ["apply"] else audit_parser()


def audit_parser() -> Parser:
    parser = recipe_parser(
        "detcenter audit",
        "Find annotations of data.train and data.val that are probably wrong. (What was decided "
        "about them: detcenter audit apply --help)",
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=3,
        metavar="N",
        help="parts of the data; each is judged by a detector that was trained on the others",
    )
    add_launching(parser)
    parser.add_argument(
        "--show",
        type=int,
        default=2000,
        metavar="N",
        help="how many suspects the page shows, the worst ones; the files list all",
    )
    add_device(parser)
    return parser


def apply_parser() -> Parser:
    parser = Parser(prog="detcenter audit apply", description="Write corrected annotations.")
    parser.add_argument("apply", choices=["apply"], help=argparse.SUPPRESS)
    parser.add_argument("decisions", type=str, help="decisions.json, of the page of an audit")
    parser.add_argument(
        "--output",
        type=str,
        metavar="FOLDER",
        required=True,
        help="a folder outside the data set, new or empty",
    )
    parser.add_argument(
        "--root", type=str, metavar="FOLDER", help="where the data set is now, if it was moved"
    )
    return parser


def check(arguments: Namespace) -> None:
    if "decisions" not in arguments and not arguments.config:
        raise ConfigError("--config FILE is missing: the recipe whose data is looked at")
