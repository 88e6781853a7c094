"""The rows of a benchmark: printed, and written to a JSON file, as soon as they are there."""

from pathlib import Path
from typing import Any

from timing import heading, written


class Record:
    """Rows of names and numbers; a run that is cut off has lost none of those before."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        print(heading(), flush=True)

    def add(self, what: str, arm: str, **numbers: float | str | None) -> None:
        self.rows.append({"what": what, "arm": arm} | numbers)
        shown = "  ".join(f"{name} {_short(x)}" for name, x in numbers.items() if x is not None)
        print(f"{what:44} {arm:28} {shown}", flush=True)
        written(self.path, self.rows)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
