"""A file of `detcenter export` in the place of the model that it was made of."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detcenter.errors import ConfigError
from detcenter.export.torch_files import KEY

_OUTPUTS = ("boxes", "scores", "labels", "features", "unknown_scores")


class OnnxDetector(nn.Module):
    """Called with images, as one of torchvision's detectors, it runs an ONNX file on the CPU.

    Attributes:
        classes: the names from label 1.
        taught: how many of them, the first ones, it was trained on.
        unknown_threshold: above which an unknown score says that a box is of none of them; None
            where there are no such scores.

    Raises:
        ConfigError: if the file is none of ``detcenter export``, or has all boxes (``--no-nms``).
    """

    def __init__(self, path: str | Path) -> None:
        import onnxruntime

        super().__init__()
        if not Path(path).is_file():
            raise ConfigError(f"{path}: no such file")
        try:
            self.session: Any = onnxruntime.InferenceSession(path, None, ["CPUExecutionProvider"])
        except Exception as error:  # of many kinds, which have no common base
            said = str(error).splitlines()[0]
            raise ConfigError(f"{path}: onnxruntime cannot read it ({said})") from None
        self.names = [x.name for x in self.session.get_outputs()]
        metadata = self.session.get_modelmeta().custom_metadata_map
        if KEY not in metadata or "labels" not in self.names:
            raise ConfigError(f"{path}: not of detcenter export, or with --no-nms")
        contract = json.loads(metadata[KEY])
        self.size = tuple(contract["size"])
        self.sized = contract["sides"] is not None
        self.transform = SimpleNamespace(fixed_size=None if self.sized else self.size[::-1])
        if self.sized:
            shortest, longest = contract["sides"]
            vars(self.transform).update(min_size=(shortest,), max_size=longest, canvas=self.size)
        self.classes: list[str] = contract["classes"]
        self.taught = len(self.classes or ()) - contract["enrolled"]
        limit = contract["unknown_threshold"]
        self.unknown_threshold = None if limit is None else torch.tensor(limit)
        # Where those who call it look for the device.
        self.register_parameter("nowhere", nn.Parameter(torch.zeros(0), requires_grad=False))

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """
        Args:
            images: [3, h, w] in 0..1 each, of the file's size, or, where it keeps their shape, no
                larger.
        """
        batch = np.zeros((len(images), 3, *self.size), np.uint8)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = (image * 255).round().byte()
        given = {"images": batch}
        if self.sized:
            given["sizes"] = np.array([image.shape[1:] for image in images])
        found = dict(zip(self.names, self.session.run(None, given), strict=True))
        there = found["labels"] > 0
        return [
            {name: torch.from_numpy(found[name][n][there[n]]) for name in _OUTPUTS if name in found}
            for n in range(len(images))
        ]
