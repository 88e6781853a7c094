"""A detector as a file of torch.export, or as TorchScript."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from detcenter.export.build import Made, detector_graph
from detcenter.export.graph import Size

KEY = "detcenter"
"""of the files beside the graph, or of the file's metadata: the contract, as JSON"""


def export_torch(
    model: nn.Module,
    path: str | Path,
    size: Size | None = None,
    nms: bool = True,
    features: bool = False,
) -> None:
    """Write ``model`` as a file of ``torch.export``, as :func:`export_onnx` does.

    After ``import torchvision``, whose suppression is in it, ``torch.export.load(path).module()``
    is called with the inputs, and returns the outputs in their order.
    """
    made = detector_graph(model, size, nms, features)
    any_number = tuple({0: Dim("batch")} for _ in made.inputs)
    with torch.no_grad():
        inputs = tuple(made.inputs.values())
        program = torch.export.export(made.graph, inputs, dynamic_shapes=any_number)
    extra = {KEY: json.dumps(made.contract)}
    whole_file(Path(path), lambda partial: torch.export.save(program, partial, extra_files=extra))


def export_torchscript(
    model: nn.Module,
    path: str | Path,
    size: Size | None = None,
    nms: bool = True,
    features: bool = False,
) -> None:
    """Write ``model`` as TorchScript, as :func:`export_onnx` does; ``torch.jit.load`` reads it."""
    made: Made = detector_graph(model, size, nms, features)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sizes, which are constants here, are traced as such
        traced: Any = torch.jit.trace(made.graph, tuple(made.inputs.values()), check_trace=False)
    extra = {KEY: json.dumps(made.contract)}
    whole_file(Path(path), lambda partial: torch.jit.save(traced, str(partial), _extra_files=extra))


def whole_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"partial.{path.name}")  # writers look at the ending
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
