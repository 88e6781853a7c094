"""The options of `detcenter evaluate`."""

import dataclasses
from collections.abc import Sequence

from jsonargparse import Namespace

from detcenter.errors import ConfigError
from detcenter.options.device import add_device
from detcenter.recipe.config import Config, DataConfig, EvaluationConfig
from detcenter.recipe.parsing import Parser, add_vote, data_parser

COMMON = (
    *("data.root", "data.val", "data.workers", "evaluation.backend", "evaluation.score"),
    *("evaluation.iou", "evaluation.max_detections", "center.vote"),
)


def parser(args: Sequence[str] = (), recipe: Config | None = None) -> Parser:
    """With the defaults of the checkpoint's ``recipe``."""
    parser = data_parser(
        "detcenter evaluate",
        "Measure a checkpoint on data.val, or a result file.",
        DataConfig() if recipe is None else recipe.data,
    )
    parser.add_argument("--checkpoint", type=str, metavar="FILE", help="a .pth file of a run")
    parser.add_argument(
        "--predictions",
        type=str,
        metavar="FILE",
        help="in place of --checkpoint: a COCO result file",
    )
    parser.add_argument(
        "--annotations", type=str, metavar="FILE", help="the COCO annotation file to --predictions"
    )
    parser.add_argument(
        "--json", type=str, metavar="FILE", help="write the numbers to this file as JSON"
    )
    parser.add_argument("--detections", type=str, metavar="FILE", help="write a COCO result file")
    add_device(parser)
    parser.add_keys(EvaluationConfig, "evaluation")
    add_vote(parser, None if recipe is None else recipe.center)
    if recipe is not None:
        values = dataclasses.asdict(recipe.evaluation)
        parser.set_defaults({f"evaluation.{key}": value for key, value in values.items()})
    return parser


def check(arguments: Namespace) -> None:
    if not (arguments.checkpoint or arguments.predictions or arguments.annotations):
        raise ConfigError("--checkpoint FILE is missing, or --predictions with --annotations")
