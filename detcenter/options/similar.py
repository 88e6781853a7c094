"""The options of `detcenter similar`."""

import re
from collections.abc import Sequence

from detcenter.errors import ConfigError
from detcenter.options.device import add_device
from detcenter.options.features import OF_TERM, PARTS
from detcenter.recipe.config import Config, DataConfig
from detcenter.recipe.parsing import Parser, data_parser

COMMON = ("data.root", "data.train", "data.val", "data.workers")


def parser(args: Sequence[str] = (), recipe: Config | None = None) -> Parser:
    """With the defaults of the checkpoint's ``recipe``."""
    for arg in args:
        if re.match(r"-[\d.]+,", arg):  # which the parser takes for an option
            raise ConfigError(f"BOX {arg} reaches out of the image, whose pixels begin at 0")
    about = "The annotated boxes of a data set that are most like one, by the detector's features."
    defaults = DataConfig() if recipe is None else recipe.data
    parser = data_parser("detcenter similar", about, defaults)
    parser.add_argument("image", type=str, nargs="?", help="an image file")
    parser.add_argument(
        "boxes",
        type=str,
        nargs="*",
        help="x1,y1,x2,y2 in pixels of the image, one or several; none: all that is detected in it",
    )
    parser.add_argument(
        "--checkpoint", type=str, metavar="FILE", required=True, help="a .pth file of a run"
    )
    parser.add_argument(
        "--output", type=str, metavar="FOLDER", default="similar", help="where the results go"
    )
    parser.add_argument(
        "--part",
        type=str,
        default="train",
        help=f"part of the data to search in: {', '.join(PARTS)}",
    )
    parser.add_argument(
        "--nearest", type=int, default=10, metavar="N", help="how many boxes to show for each"
    )
    parser.add_argument(
        "--index",
        type=str,
        metavar="FOLDER",
        help="folder that keeps the features of all boxes, so that they are taken once",
    )
    parser.add_argument("--term", type=str, metavar="NAME", help=OF_TERM)
    parser.add_argument(
        "--score",
        type=float,
        default=0.5,
        help="the lowest score of a detection that is searched for, where no box is given",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="no image: how well every box of data.val finds its class in data.train",
    )
    add_device(parser)
    return parser
