"""Bars with the time left, on a terminal; a log file gets none."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from tqdm import tqdm


def bar(
    what: str, unit: str = "img", total: float | None = None
) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """For what iterates over images, or over batches of them.

    ``total`` is how many will come, of what does not know its own length.
    """
    return partial(
        tqdm,
        desc=what,
        unit=unit,
        total=total,
        dynamic_ncols=True,
        leave=False,
        disable=not sys.stderr.isatty(),
    )
