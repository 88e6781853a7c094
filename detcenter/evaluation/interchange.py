"""Detections to and from those of `supervision`, Roboflow's library of annotators and trackers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from detcenter.evaluation.detections import Detections

if TYPE_CHECKING:
    import supervision


def to_supervision(
    detection: Mapping[str, Any], classes: Sequence[str]
) -> "supervision.Detections":
    """`supervision.Detections` of what a detector found in one image.

    Args:
        detection: `boxes` [N, 4] xyxy in pixels, `scores` [N], `labels` [N] from 1.
        classes: names; label k is `classes[k - 1]`.

    Returns:
        `class_id` is from 0, as supervision counts: label - 1. The names are in
        `data["class_name"]`.

    Raises:
        ImportError: without the package, which the extra `supervision` brings.
        ValueError: for a label that has no name, or lengths that differ.
    """
    try:
        from supervision import Detections as Theirs
    except ImportError:
        raise ImportError(
            "to_supervision needs supervision: pip install 'detcenter[supervision]'"
        ) from None
    boxes, scores, labels = Detections.of(detection)
    if len(labels) and labels.max() > len(classes):
        raise ValueError(f"label {labels.max()} has no name: there are {len(classes)} classes")
    return Theirs(
        xyxy=boxes.astype(np.float32),
        confidence=scores.astype(np.float32),
        class_id=labels - 1,
        data={"class_name": np.array([classes[label - 1] for label in labels], dtype=str)},
    )


def from_supervision(detections: "supervision.Detections") -> dict[str, Tensor]:
    """The reverse of :func:`to_supervision`: a dict as torchvision's detectors give it.

    Returns:
        `boxes` float32 [N, 4] xyxy in pixels, `scores` float32 [N], 1 where there is no
        confidence, and `labels` int64 [N] from 1.

    Raises:
        ValueError: if there are boxes without a class.
    """
    count = len(detections.xyxy)
    scores, classes = detections.confidence, detections.class_id
    if classes is None and count:
        raise ValueError(f"{count} detections without class_id: labels are made of it")
    return {
        "boxes": torch.as_tensor(np.asarray(detections.xyxy, np.float32).reshape(-1, 4)),
        "scores": torch.as_tensor(np.ones(count, np.float32) if scores is None else scores).float(),
        "labels": torch.as_tensor(
            np.zeros(0, np.int64) if classes is None else np.asarray(classes, np.int64) + 1
        ),
    }
