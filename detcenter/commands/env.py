"""`detcenter env`: what runs here, to be pasted where a fault is told; without the extra too."""

import os
import platform
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from detcenter import __version__
from detcenter.errors import ConfigError
from detcenter.installed import TRAIN

_HELP = """usage: detcenter env

Versions, devices and threads: for an issue, in one paste. It names no user, host or folder."""
_OF_DEVELOPERS = ("docs", "notebook", "test")
_OF_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def main(args: Sequence[str]) -> None:
    """Print it, a line each."""
    if list(args) in (["-h"], ["--help"], ["--help-all"]):
        print(_HELP)
        return
    if args:
        raise ConfigError(f"it takes no arguments, such as {args[0]!r}")
    for what, value in _lines():
        print(f"{what + ':':13}{value}")


def _lines() -> Iterator[tuple[str, str]]:
    yield "detcenter", f"{__version__}{_commit(Path(__file__).parents[2])}"
    yield "Python", f"{platform.python_version()}, {platform.platform()}"
    for name in ("torch", "torchvision"):
        yield name, _version(name) or "not installed"
    yield from _of_torch()
    chosen = [f"{name}={os.environ[name]}" for name in _OF_THREADS if name in os.environ]
    yield "environment", " ".join(chosen) or "nothing set of threads and devices"
    for extra, packages in extras(Path(__file__).parents[2]).items():
        yield extra, ", ".join(f"{name} {_version(name) or 'not installed'}" for name in packages)
    missing = [name for name in sorted(TRAIN.values()) if not _version(name)]
    if missing:
        yield "missing", f'{", ".join(missing)}: pip install "detcenter[train]"'


def extras(folder: Path) -> dict[str, list[str]]:
    """The packages that each extra brings, but for extras of the work on detcenter itself.

    Args:
        folder: that the package lies in: of a clone, or one that it was installed to.
    """
    needs = _declared(folder / "pyproject.toml") or _installed()
    return {
        extra: [name for name in map(_name, lines) if name != "detcenter"]
        for extra, lines in needs.items()
        if extra not in _OF_DEVELOPERS
    }


def _declared(file: Path) -> dict[str, list[str]]:
    """Of a clone, whose metadata say what was so when it was installed; else nothing."""
    project = tomllib.loads(file.read_text()).get("project", {}) if file.is_file() else {}
    return project["optional-dependencies"] if project.get("name") == "detcenter" else {}


def _installed() -> dict[str, list[str]]:
    try:
        lines = requires("detcenter") or []
    except PackageNotFoundError:
        return {}
    needs: dict[str, list[str]] = {}
    for line in lines:
        extra = re.search(r"""extra == ["']([\w-]+)""", line)
        if extra:
            needs.setdefault(extra[1], []).append(line)
    return needs


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _commit(folder: Path) -> str:
    """Of a clone; nothing where the package was installed."""
    if not (folder / ".git").exists():
        return ""
    said = _said("git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude", "*")
    return f", commit {said}" if said else ", a clone"


def _of_torch() -> Iterator[tuple[str, str]]:
    try:
        import torch
    except (ImportError, OSError) as error:  # the latter: a library that it links to
        yield "devices", f"torch cannot be imported: {' '.join(str(error).split())}"
        return
    cuda = torch.version.cuda or torch.version.hip
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("MPS")
    built = f"CUDA {cuda}" if cuda else "no CUDA"
    driver = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    yield "devices", f"{', '.join(names) or 'CPU'}; torch is built for {built}, {_driver(driver)}"
    can = torch.backends.cpu.get_cpu_capability()  # AVX2, say
    yield "threads", f"{torch.get_num_threads()} of torch, {os.cpu_count()} cores, {can}"


def _driver(said: str) -> str:
    return f"driver {said.splitlines()[0]}" if said else "no driver of NVIDIA found"


def _said(program: str, *args: str) -> str:
    """What a program prints; nothing if it is not there or fails."""
    if shutil.which(program) is None:
        return ""
    try:
        done = subprocess.run([program, *args], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
