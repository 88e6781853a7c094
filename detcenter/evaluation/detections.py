"""Detections of one image as NumPy arrays."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch


class Detections(NamedTuple):
    """What a detector found in one image.

    boxes: float64 [N, 4] xyxy in pixels; scores: float64 [N]; labels: int64 [N] from 1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, detection: Mapping[str, Any]) -> "Detections":
        """Raises ValueError for lengths that differ and for the background label 0."""
        boxes = _array(detection["boxes"], torch.float64).reshape(-1, 4)
        scores = _array(detection["scores"], torch.float64)
        labels = _array(detection["labels"], torch.int64)
        if not len(boxes) == len(scores) == len(labels):
            raise ValueError(
                f"{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels in one image"
            )
        if (labels < 1).any():
            raise ValueError("detections must have labels from 1 on: 0 is background")
        return cls(boxes, scores, labels)


def _array(values: Any, dtype: torch.dtype) -> np.ndarray:
    # By way of torch, because NumPy has no bfloat16, which mixed precision may hand us.
    return torch.as_tensor(values).detach().to("cpu", dtype).numpy()
