"""The options of commands that train many runs: how many at a time."""

from detcenter.recipe.parsing import Parser


def add_launching(parser: Parser) -> None:
    """Let ``parser`` take them."""
    parser.add_argument(
        "--jobs",
        type=str,
        metavar="N",
        help="how many runs are trained at a time, or auto, as many as pay; one a GPU unless given",
    )
