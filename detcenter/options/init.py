"""The options of `detcenter init`."""

from collections.abc import Sequence

from detcenter.recipe.parsing import Parser, keys_parser

COMMON = (
    *("model.name", "model.backbone", "model.image_size", "center", "data.format"),
    *("data.train", "data.val", "train.epochs", "train.batch_size"),
)


def parser(args: Sequence[str] = ()) -> Parser:
    parser = keys_parser(
        "detcenter init",
        "Look at a data set and write a recipe that fits it. Keys of a recipe that are given, "
        "--model.name fasterrcnn say, are kept, and the others fitted to them.",
    )
    parser.add_argument("folder", type=str, help="the data set")
    parser.add_argument(
        "--output",
        type=str,
        metavar="FILE",
        help="the recipe to write; <name of the folder>.yaml unless given",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace --output if it is there")
    return parser
