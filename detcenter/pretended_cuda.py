"""A CUDA device that is none: tensors say that they are on it, and are computed on the CPU.

For counting what would make the host wait for a device, where there is no device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)
Heard = Callable[[str, tuple[Any, ...], dict[str, Any]], None]
listeners: list[Heard] = []
"""called with the name and the arguments of every operation that runs on the pretended device, and
of a blocking copy, `"to the device"` and `"from the device"`"""

# Operations that may have operands on both sides; of any other CUDA refuses that.
_BETWEEN = {"aten::copy_", "aten::index", "aten::index_put", "aten::index_put_", "aten::set_"}
_FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
_MOVES = (Tensor.to, Tensor.cuda, Tensor.cpu)


class Pretended(Tensor):
    """A tensor of the pretended device. To autograd and the kernels it is one of the CPU."""

    held: Tensor
    device = DEVICE  # type: ignore[assignment]
    is_cuda = True
    is_cpu = False
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        made: Pretended = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device("cpu"),
            requires_grad=held.requires_grad and held.is_leaf,
        )
        made.held = held.detach()
        return made

    def __init__(self, held: Tensor) -> None:
        super().__init__()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Pretended({self.held})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.name().partition(".")[0]
        operands = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        mine = {id(x.held): x for x in operands if isinstance(x, Pretended)}
        if name not in _BETWEEN and any(x.dim() for x in operands if not isinstance(x, Pretended)):
            raise RuntimeError(f"{name}: expected all tensors on one device, found cuda:0 and cpu")
        for heard in listeners:
            heard(name, args, kwargs)
        # Not in inference mode, whose tensors may not be views of others.
        with torch.inference_mode(False), torch.no_grad():
            result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
            if name == "aten::copy_" and not isinstance(args[0], Pretended):
                return args[0]
            return tree_map(lambda x: mine[id(x)] if id(x) in mine else _wrapped(x), result)


class _Crossing(torch.autograd.Function):
    """A copy to the other side, and of its gradient back."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.held.clone() if isinstance(x, Pretended) else Pretended(x.clone())

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return _Crossing.forward(None, gradients[0])


class _Devices(TorchFunctionMode):
    """Takes care of the arguments that name a device, which the CPU's kernels cannot know."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.backward:  # what it computes again is to be seen, too
            with self:
                kwargs["grad_tensors"] = kwargs.pop("gradient", None)
                return torch.autograd.backward(*args, **kwargs)
        if func in _MOVES:
            return _moved(func, *args, **kwargs)
        if func in (Tensor.tolist, Tensor.numpy) and isinstance(args[0], Pretended):
            _blocked("from the device")
            return func(args[0].held, *args[1:], **kwargs)
        device = kwargs.get("device")
        if func in _FROM_DATA:
            if device is None and args and isinstance(args[0], Pretended):
                device = DEVICE
            return _from_data(func, args, kwargs, device)
        if device is None:
            return func(*args, **kwargs)
        made = _held(func(*args, **kwargs | {"device": "cpu"}))
        return Pretended(made) if _is_cuda(device) else made


@contextmanager
def pretended_cuda(beside_a_real_one: bool = False) -> Iterator[torch.device]:
    """Inside, ``"cuda"`` is a device on any machine; yields it.

    Where there is a real one it is that, unless ``beside_a_real_one``.

    Models and tensors are brought to it inside, ``model.to("cuda")``, and are of no use outside.
    Python code sees a device (``x.device``, ``x.is_cuda``) and takes its branches for one; results,
    gradients and random numbers are the CPU's. Operands on different devices raise RuntimeError.
    """
    if torch.cuda.is_available() and not beside_a_real_one:
        yield torch.device("cuda", torch.cuda.current_device())
        return
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Devices():
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


def _moved(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`x.to(...)`, `x.cuda()`, `x.cpu()`: a copy where the side changes."""
    if func is Tensor.to:
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        names = ["device", "dtype", "non_blocking", "copy"]
        first = int(bool(args) and isinstance(args[0], torch.dtype))
        kwargs |= zip(names[first:], args, strict=False)
        device = kwargs.pop("device", None)
        x = x.to(**kwargs)
    else:
        device = "cuda" if func is Tensor.cuda else "cpu"
        kwargs |= zip(["device", "non_blocking"], args, strict=False) if func is Tensor.cuda else ()
    if device is None or isinstance(x, Pretended) == _is_cuda(device):
        return x
    return _brought(x, blocking=not kwargs.get("non_blocking"))


def _brought(x: Tensor, blocking: bool) -> Tensor:
    """To the other side."""
    if blocking:
        _blocked("from the device" if isinstance(x, Pretended) else "to the device")
    moved: Tensor = _Crossing.apply(x)
    return moved


def _from_data(func: Any, args: Any, kwargs: dict[str, Any], device: Any) -> Tensor:
    """`torch.tensor(data, device=...)` and its like: made on the CPU and copied."""
    kwargs = {k: v for k, v in kwargs.items() if k != "device"}
    if func is Tensor.new_tensor:
        like, *args = args
        func, kwargs = torch.tensor, {"dtype": like.dtype} | kwargs
    made: Tensor = func(*args, **kwargs)
    if device is None or isinstance(made, Pretended) == _is_cuda(device):
        return made
    return _brought(made, blocking=True)


def _blocked(what: str) -> None:
    for heard in listeners:
        heard(what, (), {})


def _is_cuda(device: Any) -> bool:
    return isinstance(device, int) or torch.device(device).type == "cuda"


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Pretended) else x


def _wrapped(x: Any) -> Any:
    return Pretended(x) if isinstance(x, Tensor) else x
