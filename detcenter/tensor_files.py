"""Files of `torch.save`, read without executing anything, or one line that says what they are."""

import argparse
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SHOWN = 120  # characters of torch's own reason
_WRAPPERS = ("module.", "model.")  # DistributedDataParallel's, a LightningModule's
_COMPILED = "_orig_mod."  # torch.compile's, of the whole or of a part
_ENTRIES = (
    *("model", "state_dict", "model_state_dict", "module"),
    *("model_ema", "ema", "ema_state_dict"),
)
_SAVE = "torch.save(model.state_dict(), 'weights.pth')"
_AGAIN = "copy or download it again"
_SCALAR: Any = np.float64(0).__reduce__()[0]  # NumPy rebuilds all its numbers by it
# Plain values that training scripts save beside the weights: torchvision's their arguments, many
# a metric of NumPy's (under two names, by its version). Rebuilding them runs nothing else.
_PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"},
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
]


class TensorFileError(ValueError):
    """What a file is instead of what it should be, in one line without its name."""


def load_tensors(path: str | Path) -> Any:
    """What `torch.save` wrote to ``path``, on the CPU; every byte is checked.

    Of Python's objects only plain ones are rebuilt: containers, numbers, text, tensors.

    Raises:
        FileNotFoundError: if there is none.
        TensorFileError: if it holds anything else, or is damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except IsADirectoryError:
        raise TensorFileError("a folder, not a file") from None
    what = _what_else(path, start)
    if what is not None:
        raise TensorFileError(what)
    try:
        with torch.serialization.safe_globals(_PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are old; the reader cannot change it
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage leads to
        raise TensorFileError(_reason(error)) from None


def state_dict_in(content: Any) -> dict[str, Tensor] | None:
    """The weights in what a file holds, by the names that the bare model gives them.

    They are the content itself, or lie under a name that training scripts give them, `model` or
    `state_dict` say; where there are several the model's own come before averaged ones. Prefixes
    that wrappers of the model put before its names are left out. None if there are none.
    """
    if not isinstance(content, Mapping):
        return None
    if all(isinstance(k, str) and torch.is_tensor(x) for k, x in content.items()):
        return bare_names(content)
    inner = (state_dict_in(content[name]) for name in _ENTRIES if name in content)
    return next((state for state in inner if state is not None), None)


def bare_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """``state`` without the prefixes of DistributedDataParallel, torch.compile and Lightning."""
    bare = {name.replace(_COMPILED, ""): x for name, x in state.items() if name != "n_averaged"}
    for wrapper in _WRAPPERS:
        if bare and all(name.startswith(wrapper) for name in bare):
            return bare_names({name.removeprefix(wrapper): x for name, x in bare.items()})
    return bare


def _what_else(path: Path, start: bytes) -> str | None:
    """What the file is, if that can be told and is not what `torch.save` writes."""
    if not start:
        return f"an empty file; {_AGAIN}"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of git-lfs, not the file itself; `git lfs pull` brings it"
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < path.stat().st_size:
        convert = "torch.save(safetensors.torch.load_file(...), 'weights.pth')"
        return f"a safetensors file; {convert} makes one of torch's of it"
    if start.startswith(b"PK\x03\x04"):
        return _what_archive(path)
    text = start.decode("utf-8", errors="ignore").strip()
    if text and all(c.isprintable() or c.isspace() for c in text) and b"\0" not in start:
        return f"a text file that begins with {text.splitlines()[0][:40]!r}; {_AGAIN}"
    return None


def _what_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError):
        return f"an archive that is cut short or damaged; {_AGAIN}"
    if damaged is not None:
        return f"{damaged} in it is damaged; {_AGAIN}"
    if any(name.endswith("constants.pkl") for name in names):
        return f"a TorchScript archive; with model = torch.jit.load(...), {_SAVE} saves its weights"
    if not any(name.endswith("data.pkl") for name in names):
        return "a zip archive, but none of torch.save"
    return None


def _reason(error: Exception) -> str:
    """Why torch could not load it; of a pickled object what it is."""
    found = re.search(r"GLOBAL ([\w.]+) wh?[ao]s", str(error))
    if found is not None:
        return (
            f"a pickled object ({found[1]}), as torch.save(model) writes it; to load it could run "
            f"any code, so save the weights alone: {_SAVE}"
        )
    line = " ".join(str(error).rpartition("WeightsUnpickler error:")[2].split())
    line = re.split(r" In PyTorch| Check the documentation", line)[0]
    said = "".join(c if c.isprintable() else "?" for c in line or type(error).__name__)[:_SHOWN]
    return f"no file of torch.save, or one that is cut short: {said}"
