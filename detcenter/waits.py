"""How often the host waits for the device.

A GPU works through a queue that the host fills. Where the host asks for a value, or for a tensor
whose size depends on values, it waits until all that is queued is done, and the GPU then waits for
the host. Counting these says what a program costs beyond its arithmetic, and needs no GPU.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from detcenter import pretended_cuda as pretended
from detcenter.pretended_cuda import Pretended, pretended_cuda

__all__ = ["Waits", "counted_waits", "pretended_cuda"]

# What waits once, whatever it is called with: CUDA's kernels look at the size of their result.
_ALWAYS = {
    "to the device",
    "from the device",
    "aten::_local_scalar_dense",
    "aten::_unique",
    "aten::_unique2",
    "aten::allclose",
    "aten::equal",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::unique_dim",
    "torchvision::nms",
}
_MASKS = (torch.bool, torch.uint8)
_OWN = (pretended.__file__, __file__)
_OF_TORCH = re.compile(r"[\\/]torch[\\/]")


@dataclass
class Waits:
    """Waits of the host for the device, counted."""

    operations: Counter[str] = field(default_factory=Counter)
    """by the operation that waits; on a real device torch does not say which"""
    lines: Counter[str] = field(default_factory=Counter)
    """by the line of Python, outside of torch, that called it: "torchvision/ops/boxes.py:41" """

    @property
    def total(self) -> int:
        return self.operations.total()

    def __str__(self) -> str:
        rows = [f"{self.total} waits"]
        rows += [f"{count:7} {line}" for line, count in self.lines.most_common()]
        return "\n".join(rows)


@contextmanager
def counted_waits() -> Iterator[Waits]:
    """Count the operations inside that make the host wait for the CUDA device.

    On a CUDA device they are what ``torch.cuda.set_sync_debug_mode`` reports. On the device of
    :func:`pretended_cuda` they are counted by what CUDA's kernels are known to do: reading a value
    (``item``, ``float``, ``bool``, ``tolist``); results whose size depends on values (``nonzero``,
    ``masked_select``, indexing with a mask, ``unique``, ``repeat_interleave`` without
    ``output_size``, ``torchvision.ops.nms``); copies between host and device that are not
    ``non_blocking``, of which ``torch.tensor(data, device=...)`` is one.

    Neither sees waits inside of libraries (thrust, cuDNN), of ``torch.cuda.synchronize`` or of
    memory that runs short. The pretended device does not see the copies that autocast, compiled
    code or C++ of one's own make.

    Example:
        >>> with pretended_cuda() as device:
        ...     x = torch.arange(4.0).to(device)
        ...     with counted_waits() as waits:
        ...         positive = x[x > 0]
        >>> waits.total
        1
    """
    waits = Waits()
    with _heard(waits), _reported(waits) if torch.cuda.is_available() else nullcontext():
        yield waits


@contextmanager
def _heard(waits: Waits) -> Iterator[None]:
    def heard(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        count = _waits_of(name, args, kwargs)
        if count:
            waits.operations[name] += count
            waits.lines[_calling_line()] += count

    pretended.listeners.append(heard)
    try:
        yield
    finally:
        pretended.listeners.remove(heard)


@contextmanager
def _reported(waits: Waits) -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for one in caught:
        if "synchronizing CUDA operation" in str(one.message):
            waits.operations["a synchronizing CUDA operation"] += 1
            waits.lines[_short(one.filename, one.lineno)] += 1
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _waits_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    if name in _ALWAYS:
        return 1
    if name == "aten::bincount":
        return 2  # the least and the largest value
    if name == "aten::repeat_interleave":
        return int(kwargs.get("output_size") is None and len(args) < 2)
    if name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
        return _of_indexing(name, *args)
    if name == "aten::copy_":
        sides = {isinstance(x, Pretended) for x in args[:2]}
        return int(len(sides) == 2 and not (len(args) > 2 and args[2]))
    return 0


def _of_indexing(name: str, x: Tensor, indices: list[Tensor | None], *values: Any) -> int:
    given = [index for index in indices if index is not None]
    masks = [index for index in given if index.dtype in _MASKS]
    if name != "aten::index" and len(given) == len(masks) == 1:
        value = values[0]
        if value.numel() == 1 and not isinstance(value, Pretended):
            return 0  # a single number is put with masked_fill
    # A mask is made indices; what lies on the host is copied.
    on_host = [index for index in given if not isinstance(index, Pretended)]
    return len(masks) + sum(index.dtype not in _MASKS for index in on_host)


def _calling_line() -> str:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if file not in _OWN and not _OF_TORCH.search(file):
            return _short(file, frame.f_lineno)
        frame = frame.f_back
    return "torch"


def _short(filename: str, line: int | None) -> str:
    """From the package on, where there is one."""
    inside = re.split(r"site-packages[\\/]", filename)[-1]
    return f"{inside}:{line}"
