"""The options of `detcenter pack`."""

from collections.abc import Sequence

from detcenter.recipe.parsing import Parser, data_of_recipe, data_parser

COMMON = ("data.root", "data.format", "data.train", "data.val", "data.classes", "data.on_error")
# What a packed data set is read with, not packed with.
_OF_READING = {
    *("augment", "fold", "folds", "keep_difficult", "keep_unknown_images", "unknown", "workers")
}


def parser(args: Sequence[str] = ()) -> Parser:
    description = "Pack data.train and data.val into one file that data.format: lmdb reads."
    defaults = data_of_recipe("detcenter pack", args)
    parser = data_parser("detcenter pack", description, defaults, skip=_OF_READING)
    parser.add_argument(
        "--config", type=str, metavar="RECIPE", help="a recipe, whose data section is packed"
    )
    parser.add_argument(
        "--output",
        type=str,
        metavar="FILE",
        required=True,
        help="the file to write, such as data/dice.lmdb",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --output if it is there")
    return parser
