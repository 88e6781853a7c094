"""The rows of a benchmark: printed, and written to a JSON file, as soon as they are there."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch
import torchvision

import detcenter


class Record:
    """Rows of names and numbers; a run that is cut off has lost none of those before."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        print(", ".join(f"{name} {value}" for name, value in machine().items()), flush=True)

    def add(self, what: str, arm: str, **numbers: float | str | None) -> None:
        row = {"what": what, "arm": arm} | numbers
        self.rows.append(row)
        shown = "  ".join(f"{name} {_short(x)}" for name, x in numbers.items() if x is not None)
        print(f"{what:44} {arm:28} {shown}", flush=True)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps({"machine": machine(), "rows": self.rows}, indent=1))
            part.replace(self.path)


def machine() -> dict[str, str]:
    """Hardware and versions."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or "CPU",
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "detcenter": detcenter.__version__,
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
