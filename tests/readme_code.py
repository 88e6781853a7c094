"""The README's Python, as it stands there: python readme_code.py README.md

Without downloads, and with small images; what the features are worth does not matter here.
"""

import re
import sys
from pathlib import Path
from typing import Any

import torch


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def first_names() -> dict[str, Any]:
    """What a loop of one's own has already."""
    boxes = torch.tensor([[10.0, 10.0, 90.0, 90.0]])
    return {
        "images": [torch.rand(3, 100, 120)],
        "boxes": [boxes],
        "targets": [{"boxes": boxes, "labels": torch.tensor([5])}],
    }


def run(code: str, names: dict[str, Any]) -> None:
    small = "(weights_backbone=None, min_size=96" if "rcnn" in code else "(weights_backbone=None"
    exec(code.replace('(weights_backbone="DEFAULT"', small), names)


if __name__ == "__main__":
    names = first_names()
    for block in blocks(Path(sys.argv[1]).read_text(encoding="utf-8")):
        run(block, names)
        print({name: round(loss.item(), 3) for name, loss in names["losses"].items()})
