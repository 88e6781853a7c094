"""The options of `detcenter report`."""

from collections.abc import Sequence

from detcenter.options.device import add_device
from detcenter.recipe.parsing import Parser

COMMON = ()


def parser(args: Sequence[str] = ()) -> Parser:
    parser = Parser(prog="detcenter report", description="Show what runs learnt, in one HTML file.")
    parser.add_argument("runs", nargs="+", help="folders of finished runs")
    parser.add_argument(
        "--output", type=str, metavar="FILE", default="report.html", help="the file to write"
    )
    parser.add_argument(
        "--root", type=str, metavar="FOLDER", help="where the data set is now, if it was moved"
    )
    add_device(parser)
    return parser
