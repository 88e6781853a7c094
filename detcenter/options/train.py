"""The options of `detcenter train`."""

from collections.abc import Sequence

from jsonargparse import Namespace

from detcenter.errors import ConfigError
from detcenter.options.device import add_device
from detcenter.recipe.parsing import Parser, recipe_parser

COMMON = (
    *("model.name", "model.weights_backbone", "init_from", "center"),
    *("center.weight", "center.features", "center.warmup_steps", "data.root", "data.train"),
    *("data.val", "data.workers", "data.augment.preset", "train.epochs", "train.batch_size"),
    *("train.lr", "train.mixed_precision", "train.seed", "train.eval_every", "output"),
)


def parser(args: Sequence[str] = ()) -> Parser:
    parser = recipe_parser("detcenter train", "Train a detector as a recipe says.")
    parser.add_argument("--resume", action="store_true", help="continue the run in --output")
    parser.add_argument("--overwrite", action="store_true", help="delete a run that is in --output")
    add_device(parser)
    return parser


def check(arguments: Namespace) -> None:
    if not arguments.config:
        raise ConfigError("--config FILE is missing: the recipe, such as digits")
