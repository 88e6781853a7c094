"""torchvision's box coder without the copies that it makes to the device."""

import torch
from torch import Tensor

from detcenter.batched.lent import Batched


class BoxCoding(Batched):
    """Lent to a ``BoxCoder``. The arithmetic is the same, one operation after the other."""

    weights: tuple[float, float, float, float]
    bbox_xform_clip: float

    def encode_single(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        """The codes [P, 4] of ``reference_boxes`` relative to ``proposals``, both [P, 4]."""
        centers, sides = _centers_and_sides(proposals)
        of_references, sides_of_references = _centers_and_sides(reference_boxes)
        wx, wy, ww, wh = self.weights
        (dx, dy), (x, y) = (of_references - centers).unbind(1), sides.unbind(1)
        dw, dh = torch.log(sides_of_references / sides).unbind(1)
        return torch.stack((wx * dx / x, wy * dy / y, ww * dw, wh * dh), 1)

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Boxes [P, 4 K] of codes [P, 4 K], K for each of the ``boxes`` [P, 4]."""
        centers, sides = (x.unsqueeze(1) for x in _centers_and_sides(boxes.to(rel_codes.dtype)))
        wx, wy, ww, wh = self.weights
        dx, dy, dw, dh = rel_codes.unflatten(1, (-1, 4)).unbind(2)
        shift = torch.stack((dx / wx, dy / wy), 2)
        stretch = torch.stack((dw / ww, dh / wh), 2).clamp(max=self.bbox_xform_clip)
        middle = shift * sides + centers
        half = 0.5 * (torch.exp(stretch) * sides)
        return torch.cat((middle - half, middle + half), 2).flatten(1)


def _centers_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + 0.5 * sides, sides
