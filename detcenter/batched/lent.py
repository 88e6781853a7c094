"""What is lent to torchvision's detectors, and when it steps aside."""

import torch

from detcenter.adoption import NotScripted


class Batched(NotScripted):
    """The base of what :func:`detcenter.fast` lends; a class that has it keeps its name."""

    undone_by = "detcenter.fast(model, False)"
    named = False


def exporting() -> bool:
    """Whether a graph for any input is made, which numbers of candidates may not go into."""
    return torch._C._get_tracing_state() is not None or torch.compiler.is_exporting()
