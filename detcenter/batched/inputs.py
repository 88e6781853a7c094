"""What the forward of all of torchvision's detectors begins with, for a whole batch."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

Targets = list[dict[str, Tensor]]


class Prepared(NamedTuple):
    """What a detector is given, as its backbone and its losses take it."""

    batch: ImageList
    targets: Targets | None
    sizes: list[tuple[int, int]]
    """height and width of each image as it was given"""
    check_boxes: Callable[[], None]
    """raises if a box of the targets is degenerate; to be called when the device has work"""


def prepared(model: Any, images: list[Tensor], targets: Targets | None) -> Prepared:
    """As torchvision's detectors do it, but boxes are checked at once, and on CUDA later."""
    if model.training:
        _check_shapes(targets)
        if targets is not None and len(targets) != len(images):
            raise ValueError(f"{len(images)} images, but {len(targets)} targets: one an image")
    sizes = [_size(image) for image in images]
    batch, targets = model.transform(images, targets)
    return Prepared(batch, targets, sizes, _checked_later(targets))


def first_objects(targets: Sequence[dict[str, Tensor]], device: torch.device) -> Tensor:
    """Where the objects of each image begin among all, [N]; the host does not wait.

    Raises:
        ValueError: if boxes and labels differ in number; then those of the images that follow,
            which all lie in one tensor, would be read at other places.
    """
    counts = [len(target["boxes"]) for target in targets]
    for number, (count, target) in enumerate(zip(counts, targets, strict=True)):
        if len(target["labels"]) != count:
            raise ValueError(
                f"{count} boxes and {len(target['labels'])} labels in the target at index {number}"
            )
    numbers = torch.tensor(counts)
    return (numbers.cumsum(0) - numbers).to(device, non_blocking=True)


def maps_of(model: Any, batch: ImageList) -> dict[str, Tensor]:
    """The feature maps of the backbone, of which a single one is called "0"."""
    maps = model.backbone(batch.tensors)
    return OrderedDict([("0", maps)]) if isinstance(maps, Tensor) else maps


def _check_shapes(targets: Targets | None) -> None:
    if targets is None:
        torch._assert(False, "targets should not be none when in training mode")
        return
    for target in targets:
        boxes = target["boxes"]
        if not isinstance(boxes, Tensor):
            torch._assert(False, f"Expected target boxes to be of type Tensor, got {type(boxes)}.")
        torch._assert(
            boxes.dim() == 2 and boxes.shape[-1] == 4,
            f"Expected target boxes to be a tensor of shape [N, 4], got {boxes.shape}.",
        )


def _size(image: Tensor) -> tuple[int, int]:
    size = image.shape[-2:]
    torch._assert(
        len(size) == 2,
        f"expecting the last two dimensions of the Tensor to be H and W instead got {size}",
    )
    return size[0], size[1]


def _checked_later(targets: Targets | None) -> Callable[[], None]:
    """Check the boxes. On CUDA what is returned does: until then the host goes on.

    It waits no longer than for the boxes, not for what the device was given afterwards.
    """
    if not targets:
        return lambda: None
    boxes = torch.cat([target["boxes"] for target in targets])
    wrong = (boxes[:, 2:] <= boxes[:, :2]).any()
    if not (wrong.is_cuda and torch.cuda.is_available()):
        _refuse(wrong, targets)
        return lambda: None
    found, copied = wrong.to("cpu", non_blocking=True), torch.cuda.Event()
    copied.record(torch.cuda.current_stream(wrong.device))

    def check() -> None:
        copied.synchronize()
        _refuse(found, targets)

    return check


def _refuse(wrong: Tensor, targets: Targets) -> None:
    """Name the first degenerate box, as torchvision does, if any is wrong."""
    if not wrong:
        return
    for number, target in enumerate(targets):
        for box in target["boxes"].tolist():
            torch._assert(
                not (box[2] <= box[0] or box[3] <= box[1]),
                "All bounding boxes should have positive height and width."
                f" Found invalid box {box} for target at index {number}.",
            )
