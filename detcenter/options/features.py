"""The options of `detcenter features`."""

from collections.abc import Sequence
from typing import Literal

from detcenter.options.device import add_device
from detcenter.recipe.config import Config, DataConfig
from detcenter.recipe.parsing import Parser, data_parser

COMMON = ("data.root", "data.train", "data.val", "data.workers")
PARTS: dict[str, list[Literal["train", "val"]]] = {
    "train": ["train"],
    "val": ["val"],
    "both": ["train", "val"],
}
OF_TERM = "the loss whose features are taken; the first one unless given"


def parser(args: Sequence[str] = (), recipe: Config | None = None) -> Parser:
    """With the defaults of the checkpoint's ``recipe``."""
    about = "What the features of annotated boxes say, those of data.val unless told otherwise."
    defaults = DataConfig() if recipe is None else recipe.data
    parser = data_parser("detcenter features", about, defaults)
    parser.add_argument(
        "--checkpoint", type=str, metavar="FILE", required=True, help="a .pth file of a run"
    )
    parser.add_argument(
        "--output", type=str, metavar="FOLDER", default="features", help="where the results go"
    )
    parser.add_argument("--term", type=str, metavar="NAME", help=OF_TERM)
    parser.add_argument(
        "--part", type=str, default="val", help=f"part of the data: {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--format",
        type=str,
        default="npz",
        help="format of the features: npz, parquet, or npz,parquet",
    )
    parser.add_argument("--raw", action="store_true", help="never put features on the unit sphere")
    add_device(parser)
    return parser
