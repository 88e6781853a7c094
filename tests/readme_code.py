"""The Python of a page, as it stands there: python readme_code.py README.md

A page's blocks run one after the other, with the same names. One that cannot run says so behind
its language, with the reason: ```python not run: needs a camera
"""

import re
import sys
from pathlib import Path
from typing import Any


def blocks(text: str) -> list[str]:
    """Those that are to run."""
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def left_out(text: str) -> list[str]:
    """Why the others do not, a reason each."""
    return re.findall(r"^```python (?:not run: )?(.*)$", text, re.MULTILINE)


def run_blocks(text: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs the blocks; returns all names, those that were given too."""
    names = {} if names is None else names
    for block in blocks(text):
        exec(block, names)
    return names


if __name__ == "__main__":
    losses = run_blocks(Path(sys.argv[1]).read_text(encoding="utf-8"))["losses"]
    print({name: round(loss.item(), 3) for name, loss in losses.items()})
