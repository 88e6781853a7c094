"""A detector as a file of torch.export, or as TorchScript."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from detcenter.export.build import Made, detector_graph
from detcenter.export.graph import Size
from detcenter.whole_file import whole_file

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
    program = program_of(made)
    with whole_file(Path(path)) as file:
        torch.export.save(program, file, extra_files={KEY: json.dumps(made.contract)})


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
    with whole_file(Path(path)) as file:
        torch.jit.save(traced, file, _extra_files={KEY: json.dumps(made.contract)})


def any_number(made: Made) -> tuple[dict[int, Any], ...]:
    """Of each input the dimension that is open: how many images there are."""
    return tuple({0: Dim("batch")} for _ in made.inputs)


@torch.no_grad()
def program_of(made: Made) -> torch.export.ExportedProgram:
    """For any number of images."""
    inputs = tuple(made.inputs.values())
    return torch.export.export(made.graph, inputs, dynamic_shapes=any_number(made))
