"""The options of `detcenter enroll`."""

from collections.abc import Sequence

from detcenter.options.device import add_device
from detcenter.recipe.config import Config, DataConfig
from detcenter.recipe.parsing import Parser, data_parser

COMMON = ("data.root", "data.workers")
_ABOUT = "Let a trained detector find a class that it was not taught, by a few of its boxes."


def parser(args: Sequence[str] = (), recipe: Config | None = None) -> Parser:
    """With the defaults of the checkpoint's ``recipe``."""
    defaults = DataConfig() if recipe is None else recipe.data
    parser = data_parser("detcenter enroll", _ABOUT, defaults)
    parser.add_argument(
        "--checkpoint", type=str, metavar="FILE", required=True, help="a .pth file of a run"
    )
    parser.add_argument("--class", dest="name", metavar="NAME", type=str, help="the new class")
    parser.add_argument(
        "--images",
        type=str,
        metavar="FOLDER",
        help="a data set, in any layout, with boxes of the class; data.train of the checkpoint "
        "unless given",
    )
    parser.add_argument(
        "--box",
        nargs=2,
        action="append",
        metavar=("IMAGE", "X1,Y1,X2,Y2"),
        help="in place of --images: one box in an image, in pixels; again for each further box",
    )
    parser.add_argument(
        "--boxes",
        type=int,
        metavar="N",
        help="take so many of the boxes, drawn by chance; all unless given",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the draw of --boxes"
    )
    parser.add_argument(
        "--remove", type=str, metavar="NAME", help="in place of --class: forget this enrolled class"
    )
    parser.add_argument(
        "--output", type=str, metavar="FILE", required=True, help="the checkpoint to write"
    )
    add_device(parser)
    return parser
