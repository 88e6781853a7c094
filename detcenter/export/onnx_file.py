"""A detector as an ONNX file."""

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detcenter.export.build import detector_graph
from detcenter.export.graph import Size
from detcenter.export.suppression import suppressed
from detcenter.export.torch_files import KEY, any_number, program_of
from detcenter.whole_file import whole_file


def export_onnx(
    model: nn.Module,
    path: str | Path,
    size: Size | None = None,
    nms: bool = True,
    features: bool = False,
) -> None:
    """Write ``model`` as an ONNX file, for any number of images of one size.

    What goes in and comes out is in docs/export.md; the file says it too.

    Args:
        model: one of torchvision's box detectors, attached to or not. Its vote, its L2
            softmax and its enrolled classes go along.
        path: of the file, which is replaced if it is there.
        size: height and width of the images; None is what the model brings all images to, or,
            where it keeps their shape, a square that all of them fit into.
        nms: whether boxes are dropped for better ones of their class, and for low scores. Without
            it all boxes and the scores of their classes are given; not of an R-CNN.
        features: whether each detection's features are given, as
            :func:`detcenter.detect_with_features` has them, and, of a model with an
            ``unknown_scorer``, its unknown score.

    Raises:
        ImportError: if onnx or onnxscript is not installed.
        TypeError: for what is no detector of torchvision's, or does things in a way of its own.
        ValueError: for options that do not fit the model.
    """
    made = detector_graph(model, size, nms, features, suppressed_in_onnx)
    with _quiet(), torch.no_grad():
        program = program_of(made)
        if _uses(program, _CDIST):
            program = program.run_decompositions(dict.fromkeys(_CDIST, _distances))
        made_of_it = torch.onnx.export(
            program,
            (),
            input_names=[*made.inputs],
            output_names=made.graph.outputs,
            dynamic_shapes=any_number(made),
            custom_translation_table={torch.ops.detcenter.suppressed.default: _by_operator},
            verbose=False,
        )
    assert made_of_it is not None  # it is None for the old exporter
    made_of_it.model.metadata_props[KEY] = json.dumps(made.contract)
    with whole_file(Path(path)) as file:
        file.write(made_of_it.model_proto.SerializeToString())


@torch.library.custom_op("detcenter::suppressed", mutates_args=())
def suppressed_in_onnx(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, most: int
) -> Tensor:
    """:func:`suppressed`, for which ONNX has an operator."""
    return suppressed(boxes, scores, iou_threshold, score_threshold, most)


@suppressed_in_onnx.register_fake
def _of_shape(boxes: Tensor, scores: Tensor, iou: float, score: float, most: int) -> Tensor:
    return torch.empty_like(scores)


def _by_operator(boxes: Any, scores: Any, iou: float, score: float, most: int) -> Any:
    from onnxscript import opset18

    op: Any = opset18
    limits = [op.Constant(value_floats=[float(x)]) for x in (iou, score)]
    kept = op.NonMaxSuppression(boxes, scores, op.Constant(value_ints=[most]), *limits)
    nothing = op.Expand(op.Constant(value_floats=[-math.inf]), op.Shape(scores))
    return op.ScatterND(nothing, kept, op.GatherND(scores, kept))


_CDIST = (torch.ops.aten.cdist.default, torch.ops.aten._cdist_forward.default)


def _uses(program: torch.export.ExportedProgram, operators: tuple[Any, ...]) -> bool:
    """In any of its graphs: what ran without gradients has one of its own."""
    parts = [x for x in program.graph_module.modules() if isinstance(x, torch.fx.GraphModule)]
    return any(node.target in operators for part in parts for node in part.graph.nodes)


def _distances(x: Tensor, y: Tensor, p: float = 2.0, _: int | None = None) -> Tensor:
    """``torch.cdist``, of which ONNX has none."""
    apart = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    return apart.amax(-1) if p == math.inf else apart.square().sum(-1).sqrt()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks that the exporter makes on the way."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
