"""The options of `detcenter check`."""

from collections.abc import Sequence

from detcenter.recipe.parsing import Parser, recipe_parser

COMMON = (
    *("data.root", "data.format", "data.train", "data.val", "data.classes", "data.on_error"),
    *("data.keep_difficult",),
)


def parser(args: Sequence[str] = ()) -> Parser:
    parser = recipe_parser("detcenter check", "Find what is wrong with data.train and data.val.")
    parser.add_argument(
        "--fix", type=str, metavar="FOLDER", help="write the data set without its faults"
    )
    parser.add_argument(
        "--json", type=str, metavar="FILE", help="write what is found, for programs"
    )
    parser.add_argument(
        "--html", type=str, metavar="FILE", help="write a page with pictures of what is found"
    )
    parser.add_argument(
        "--groups",
        type=str,
        metavar="FILE",
        help="write which images are near copies of one another, for data.groups",
    )
    return parser
