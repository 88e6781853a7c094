"""What this process may use of the machine: cores and memory, also where a container limits it.

And what the machine can do.
"""

import os
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory(cgroup: Path = _CGROUP) -> float:
    """Bytes that programs may still take, files in the cache not counted as taken.

    Args:
        cgroup: where Linux says what the container may take (version 2).
    """
    free = float(psutil.virtual_memory().available)
    try:
        most = int((cgroup / "memory.max").read_text())  # "max" where there is no limit
        taken = int((cgroup / "memory.current").read_text())
        rows = (cgroup / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return free
    cached = sum(int(row.split()[1]) for row in rows if row.startswith("inactive_file "))
    return min(free, most - taken + cached)


def taken_memory() -> float:
    """Bytes of this process and of those that it started, what they share counted once."""
    mine = psutil.Process()
    taken = 0.0
    for process in [mine, *mine.children(recursive=True)]:
        try:
            memory = process.memory_full_info()
        except psutil.Error:  # it has ended meanwhile
            continue
        taken += getattr(memory, "pss", memory.rss)  # only Linux knows what is shared
    return taken


def computes_bf16(device: torch.device) -> bool:
    """Whether torch computes in bfloat16 on ``device`` without emulating it.

    Where it does not, a step may take ten times as long as in float32. Of a CPU it is whether
    convolutions do; devices that are neither CPU nor GPU are taken to.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        convolutions = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return convolutions is not None and bool(convolutions())
    return True
