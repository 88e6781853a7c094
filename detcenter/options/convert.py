"""The options of `detcenter convert`."""

from collections.abc import Sequence

from jsonargparse import Namespace

from detcenter.errors import ConfigError
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
    parser.add_argument(
        "--tfrecords",
        type=str,
        metavar="FOLDER",
        help="in place of data.root, TFRecord files of the TensorFlow Object Detection API",
    )
    parser.add_argument("--to", choices=LAYOUTS, required=True, help="layout to write")
    parser.add_argument("--copy", action="store_true", help="write copies of the images, not links")
    parser.add_argument("out", metavar="OUT", type=str, help="a folder that is new or empty")
    return parser


def check(arguments: Namespace) -> None:
    if arguments.tfrecords and arguments.config:
        raise ConfigError("--tfrecords and --config both say which data set; give one of them")
