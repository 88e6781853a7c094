"""The options of `detcenter convert`."""

from collections.abc import Sequence

from detcenter.recipe.parsing import Parser, data_of_recipe, data_parser

COMMON = ("data.root", "data.format", "data.train", "data.val", "data.classes", "data.on_error")
LAYOUTS = ("coco", "voc", "yolo")
# What a data set is read with in training, not what it is.
_OF_READING = {
    *("augment", "fold", "folds", "keep_difficult", "keep_unknown_images", "unknown", "workers")
}


def parser(args: Sequence[str] = ()) -> Parser:
    prog, description = "detcenter convert", "Write data.train and data.val in another layout."
    parser = data_parser(prog, description, data_of_recipe(prog, args), skip=_OF_READING)
    parser.add_argument(
        "--config", type=str, metavar="RECIPE", help="a recipe, whose data section is converted"
    )
    parser.add_argument("--to", choices=LAYOUTS, required=True, help="the layout")
    parser.add_argument("--copy", action="store_true", help="copies of images, not links")
    parser.add_argument("out", metavar="OUT", type=str, help="a folder that is new or empty")
    return parser
