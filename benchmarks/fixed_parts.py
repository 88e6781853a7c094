"""SSD300 without its network: what is left is what torchvision and detcenter do around it."""

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


class Fixed(nn.Module):
    """Returns the same whatever it gets."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, *inputs: Any) -> Any:
        return self.value


class FixedTransform(Fixed):
    """Of images that have the model's size already, as torchvision's returns it."""

    def forward(self, images: Any, targets: Any = None) -> Any:
        return self.value, targets

    def postprocess(self, result: Any, *sizes: Any) -> Any:
        return result


def detector(num_classes: int, small: bool) -> nn.Module:
    """SSD300, untrained; to try it out a smaller one."""
    builder = ssdlite320_mobilenet_v3_large if small else ssd300_vgg16
    model: nn.Module = builder(weights=None, weights_backbone=None, num_classes=num_classes)
    return model


def outputs_of(model: Any, count: int, device: torch.device) -> tuple[Any, Any, ImageList]:
    """Maps, head outputs and images of a batch of noise, by an untrained head."""
    size = model.transform.fixed_size
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    model.to(device).eval()
    with torch.no_grad():
        maps = model.backbone(images.to(device))
        maps = OrderedDict((name, x.expand(count, -1, -1, -1).clone()) for name, x in maps.items())
        for x in maps.values():  # no two images alike
            x.mul_(torch.linspace(0.5, 1.5, count, device=device)[:, None, None, None])
        head = model.head(list(maps.values()))
        logits = head["cls_logits"]  # of which no two are to be alike
        head["cls_logits"] = logits + 0.01 * torch.randn_like(logits)
    batch = ImageList(images.expand(count, -1, -1, -1).to(device), [size] * count)
    return maps, head, batch


def with_fixed_parts(model: Any, maps: Any, head: Any, images: ImageList) -> tuple[Any, list[Any]]:
    """A copy of ``model`` that computes losses from fixed outputs; and these, to be derived by."""
    fixed = copy.deepcopy(model).train()
    maps = OrderedDict((name, x.clone().requires_grad_()) for name, x in maps.items())
    head = {name: x.clone().requires_grad_() for name, x in head.items()}
    fixed.transform = FixedTransform(images)
    fixed.backbone, fixed.head = Fixed(maps), Fixed(head)
    return fixed, [*maps.values(), *head.values()]


def targets_of(count: int, num_classes: int, size: int, device: torch.device) -> list[Any]:
    """Eight objects an image, of sizes that anchors of all levels match."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor([0.07, 0.08, 0.1, 0.16, 0.25, 0.4, 0.5, 0.65]) * size
    corners = torch.rand(count, 8, 2, generator=generator) * (size - 1 - sides[:, None])
    boxes = torch.cat([corners, corners + sides[:, None]], 2).to(device)
    labels = torch.randint(1, num_classes, (count, 8), generator=generator).to(device)
    return [{"boxes": b, "labels": y} for b, y in zip(boxes, labels, strict=True)]
