"""--device: what a command runs its model on."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from detcenter.errors import ConfigError
from detcenter.recipe.parsing import Parser

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_CPU = "ACCELERATE_USE_CPU"


def add_device(parser: Parser) -> None:
    parser.add_argument(
        "--device",
        type=str,
        metavar="DEVICE",
        help="cpu, cuda, cuda:1 (a number from 0) or mps; the fastest unless given",
    )


@contextmanager
def on_device(name: str | None) -> Iterator[None]:
    """Let this process, and those that it starts, see no other device than ``name``.

    It has to be entered before CUDA is first used. The variables that do this are those of CUDA
    and accelerate; they are put back in the end.

    Raises:
        ConfigError: if ``name`` is no device, or cannot be chosen in a run of torchrun.
    """
    changed = {} if name is None else _variables(name)
    before = {key: os.environ.get(key) for key in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            os.environ.update({} if value is None else {key: value})


def _variables(name: str) -> dict[str, str]:
    numbered = re.fullmatch(r"cuda:(\d+)", name)
    if not numbered and name not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"--device is cpu, cuda, cuda:1 (a number from 0) or mps, not {name!r}")
    if name == "cpu":
        return {_VISIBLE: "", _CPU: "true"}
    if not numbered:
        return {}
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ConfigError(f"--device {name}: torchrun gives every process a GPU; leave it out")
    visible = os.environ.get(_VISIBLE)
    if visible is None:
        return {_VISIBLE: numbered[1]}
    places = visible.split(",") if visible else []
    if int(numbered[1]) >= len(places):
        raise ConfigError(f"--device {name}: {_VISIBLE} has {len(places)} devices, from cuda:0")
    return {_VISIBLE: places[int(numbered[1])]}


def check_device(name: str | None) -> None:
    """Whether the device is there; loads torch.

    Raises:
        ConfigError: if it is not.
    """
    if name in (None, "cpu"):
        return
    import torch  # which --help does not wait for

    there = torch.backends.mps.is_available() if name == "mps" else torch.cuda.is_available()
    if not there:
        raise ConfigError(f"--device {name} is not there; detcenter env says which devices are")
