"""The options of commands that train many runs: how many at a time, and where."""

from detcenter.recipe.parsing import Parser

LAUNCHING = {"jobs", "launcher", "slurm"}


def add_launching(parser: Parser) -> None:
    """Let ``parser`` take them."""
    parser.add_argument(
        "--jobs",
        type=str,
        metavar="N",
        help="how many runs are trained at a time, or auto, as many as pay; one a GPU unless given",
    )
    parser.add_argument(
        "--launcher",
        type=str,
        metavar="slurm",
        help="slurm makes each run a job; unless given, runs are trained on this machine",
    )
    parser.add_argument(
        "--slurm",
        type=str,
        action="append",
        metavar="KEY=VALUE",
        help="what a job asks for: time=4:00:00 partition=gpu gpus=1 cpus=8, and sbatch's others",
    )
