"""Anchors that are kept for the next batch, whose maps mostly have the same sizes."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
import torchvision
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from detcenter.adoption import keeps
from detcenter.batched.lent import Batched

_MOST = 4  # sizes of maps, of which the anchors are kept
_KEPT: WeakKeyDictionary[Any, dict[Any, tuple[Tensor, int, Any]]] = WeakKeyDictionary()


class KeptDefaultBoxes(Batched):
    """Lent to the anchor generator of an SSD."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        plain = keeps(self, DefaultBoxGenerator, "_grid_default_boxes")
        found: Any = super().forward  # type: ignore[misc]
        return _kept(self, image_list, feature_maps, found, plain)


class KeptAnchors(Batched):
    """Lent to the anchor generator of the other detectors."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        plain = keeps(self, AnchorGenerator, "set_cell_anchors", "grid_anchors")
        found: Any = super().forward  # type: ignore[misc]
        return _kept(self, image_list, feature_maps, found, plain)


def in_autocast() -> bool:
    accelerator = torch.accelerator.current_accelerator()
    kinds = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    return any(torch.is_autocast_enabled(kind) for kind in kinds)


def traced() -> bool:
    """Whether the code is read, by ``torch.compile`` or for ONNX, rather than run."""
    return torchvision._is_tracing() or torch.compiler.is_compiling()


def _kept(generator: Any, images: ImageList, maps: list[Tensor], make: Any, plain: bool) -> Any:
    """One tensor for all images, by ``make``; the last few sizes' stay as long as the generator.

    What depends on anything but the sizes and what the generator itself has is made anew.
    """
    if not plain or is_fake(maps[0]) or traced():
        return make(images, maps)
    sizes = images.tensors.shape[-2:], *(x.shape[-2:] for x in maps)
    key = sizes, maps[0].dtype, maps[0].device, type(maps[0]), in_autocast()
    kept = _KEPT.setdefault(generator, {})
    anchors, version, state = kept.pop(key, (None, 0, None))
    if anchors is None or anchors._version != version or state != _state(generator):
        with torch.inference_mode(False), torch.no_grad():  # else training could not use them
            (anchors,) = make(ImageList(images.tensors, images.image_sizes[:1]), maps)
    kept[key] = anchors, anchors._version, _state(generator)
    if len(kept) > _MOST:
        del kept[next(iter(kept))]
    return [anchors] * len(images.image_sizes)


class _Same:
    """Equal to another of the same tensor, if that was not written into since."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version = tensor, 0 if tensor.is_inference() else tensor._version

    def __eq__(self, other: Any) -> bool:
        return self.tensor is other.tensor and self.version == other.version


def _state(generator: Any) -> list[Any]:
    """What the anchors are made from, as it is now."""
    if isinstance(generator, DefaultBoxGenerator):
        numbers = generator.clip, repr(generator.steps)
        return [*numbers, *map(_Same, generator._wh_pairs)]
    return list(map(_Same, generator.cell_anchors))
