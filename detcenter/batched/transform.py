"""torchvision's preparation of images and boxes for a whole batch, and the way back."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detcenter.adoption import keeps
from detcenter.batched.anchors import traced
from detcenter.batched.lent import Batched

Size = tuple[int, int]  # height and width
_ONE_BY_ONE = {"cpu"}  # where an image stays in the processor's cache, a batch does not
_STEPS = ("normalize", "resize", "torch_choice", "batch_images", "max_by_axis")


class BatchedTransform(Batched):
    """Lent to a ``GeneralizedRCNNTransform``. Pixels, boxes and random numbers are the same."""

    def forward(
        self: Any, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        images = list(images)
        plain = all(image.dim() == 3 and not is_fake(image) for image in images)
        unchanged = keeps(self, GeneralizedRCNNTransform, *_STEPS)
        if not (images and plain and unchanged) or traced():
            found: Any = super().forward(images, targets)  # type: ignore[misc]
            return found
        before: list[Size] = [_size(image) for image in images]
        after = _sizes(self, before)
        batch = _batch(self, images, after)
        if targets is not None:
            skipped = self.training and self._skip_resize
            targets = [dict(target) for target in targets]
            if not skipped:
                _resize_targets(targets, before, after)
        return ImageList(batch, after), targets

    def postprocess(
        self: Any, result: list[dict[str, Tensor]], image_shapes: list[Size], original: list[Size]
    ) -> list[dict[str, Tensor]]:
        if traced():
            found: Any = super().postprocess(result, image_shapes, original)  # type: ignore[misc]
            return found
        if self.training or not result:
            return result
        _resize(result, "boxes", image_shapes, original)
        _resize(result, "keypoints", image_shapes, original)
        for found, size in zip(result, original, strict=False):
            if "masks" in found:
                found["masks"] = paste_masks_in_image(found["masks"], found["boxes"], size)
        return result


def _sizes(transform: Any, before: Sequence[Size]) -> list[Size]:
    """The images' sizes when they are resized; in training the shorter sides are drawn."""
    if transform.training:
        if transform._skip_resize:
            return list(before)
        drawn = torch.empty(len(before)).uniform_(0.0, float(len(transform.min_size))).tolist()
        least = [transform.min_size[int(x)] for x in drawn]
    else:
        least = [transform.min_size[-1]] * len(before)
    if transform.fixed_size is not None:
        return [(transform.fixed_size[1], transform.fixed_size[0])] * len(before)
    return [_scaled(size, x, transform.max_size) for size, x in zip(before, least, strict=True)]


def _scaled(size: Size, least: int, most: int) -> Size:
    """As ``F.interpolate`` rounds it."""
    scale = min(least / min(size), most / max(size))
    return int(size[0] * scale), int(size[1] * scale)


def _batch(transform: Any, images: list[Tensor], after: list[Size]) -> Tensor:
    """Images normalized and resized, on a GPU those of one size together; [N, C, H, W]."""
    groups: dict[Any, list[int]] = {}
    for number, (image, size) in enumerate(zip(images, after, strict=True)):
        kind = image.shape, image.stride(), image.dtype, image.device, size
        alone = number if image.device.type in _ONE_BY_ONE else None
        groups.setdefault((kind, alone), []).append(number)
    ready = list(images)
    for numbers in groups.values():
        found = _stacked([images[number] for number in numbers])
        found = _resized(_normalized(transform, found), after[numbers[0]])
        for number, image in zip(numbers, found, strict=True):
            ready[number] = image
    if len(groups) == 1:
        below, right = (-side % transform.size_divisible for side in after[0])
        padded = F.pad(found, (0, right, 0, below)) if below or right else found
        return padded.contiguous()
    batch: Tensor = transform.batch_images(ready, size_divisible=transform.size_divisible)
    return batch


def _stacked(images: list[Tensor]) -> Tensor:
    """[N, C, H, W], channels last in memory if they are so in the images: rounding differs."""
    if len(images) == 1:
        return images[0].unsqueeze(0)
    if 0 < images[0].stride(0) < images[0].stride(2):
        return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
    return torch.stack(images)


def _normalized(transform: Any, images: Tensor) -> Tensor:
    if not images.is_floating_point():
        raise TypeError(
            "Expected input images to be of floating type (in range [0, 1]), "
            f"but found type {images.dtype} instead"
        )
    statistics = tuple(transform.image_mean), tuple(transform.image_std)
    mean, std = _constants(*statistics, images.dtype, images.device, type(images))
    return (images - mean) / std


@lru_cache(maxsize=16)
def _constants(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype,
    device: torch.device,
    kind: type[Tensor],
) -> list[Tensor]:
    """On the device; for each ``kind`` of tensors by themselves."""
    with torch.inference_mode(False):  # else training could not use them afterwards
        values = (torch.tensor(x, dtype=dtype) for x in (mean, std))
        return [x[:, None, None].to(device, non_blocking=True) for x in values]


def _resized(images: Tensor, size: Size) -> Tensor:
    if images.shape[-2:] == size:  # every pixel would be itself
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def _resize_targets(
    targets: list[dict[str, Tensor]], before: list[Size], after: list[Size]
) -> None:
    for target, size in zip(targets, after, strict=False):
        if "masks" in target:
            masks = target["masks"].unsqueeze(1).float()
            target["masks"] = F.interpolate(masks, size=size).squeeze(1).byte()
    _resize(targets, "boxes", before, after)
    _resize(targets, "keypoints", before, after)


def _resize(of: list[dict[str, Tensor]], key: str, before: list[Size], after: list[Size]) -> None:
    """Move ``boxes`` [M, 4], or ``keypoints`` [M, K, 3], of all images as the images were resized.

    The ratios are divided on the host, as float32, and travel together.
    """
    rows = [n for n, values in enumerate(of[: len(before)]) if key == "boxes" or key in values]
    if not rows:
        return
    values = [of[number][key] for number in rows]
    old, new = (
        torch.tensor([sizes[n] for n in rows], dtype=torch.float32) for sizes in (before, after)
    )
    height, width = (new / old).unbind(1)
    columns = [width, height] * 2 if key == "boxes" else [width, height, torch.ones_like(width)]
    counts = [len(x) for x in values]
    ratios = torch.stack(columns, 1).repeat_interleave(torch.tensor(counts), 0)
    joined = torch.cat(values)
    ratios = ratios.to(joined.device, non_blocking=True)
    moved = joined * ratios.view(len(joined), *[1] * (joined.dim() - 2), ratios.shape[1])
    moved = moved.to(joined.dtype) if joined.is_floating_point() else moved
    for number, of_image in zip(rows, moved.split(counts), strict=True):
        of[number][key] = of_image


def _size(image: Tensor) -> Size:
    height, width = image.shape[-2:]
    return height, width
