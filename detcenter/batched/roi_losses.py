"""The losses of a Faster R-CNN's heads by masks: no wait between the forward and the backward."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection import roi_heads

from detcenter.batched.lent import Batched

_FLOATS = (torch.float, torch.double, torch.half)


class RoILosses(Batched):
    """Lent to the heads of an R-CNN. On CUDA only, and for boxes only: masks and keypoints ask for
    the positive boxes of each image anyway."""

    def forward(
        self: Any,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> Any:
        if proposals[0].is_cpu or not (self.training and _are_boxes(self, targets)):
            return super().forward(features, proposals, image_shapes, targets)  # type: ignore[misc]
        proposals, _, labels, wanted = self.select_training_samples(proposals, targets)
        found = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        logits, codes = self.box_predictor(found)
        of_class, of_box = roi_losses(logits, codes, torch.cat(labels), torch.cat(wanted))
        return [], {"loss_classifier": of_class, "loss_box_reg": of_box}


def roi_losses(
    logits: Tensor, codes: Tensor, labels: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """As torchvision's ``fastrcnn_loss``.

    Args:
        logits: [R, C] of all images.
        codes: [R, 4 C].
        labels: [R], 0 for background.
        wanted: [R, 4], the codes of each box's object; of background they may be infinite.
    """
    at = labels.view(-1, 1, 1).expand(-1, 1, 4)
    of_label = codes.view(len(labels), -1, 4).gather(1, at).squeeze(1)
    positive = (labels > 0).unsqueeze(1)
    of_label, wanted = (x.where(positive, 0.0) for x in (of_label, wanted))
    of_boxes = F.smooth_l1_loss(of_label, wanted, beta=1 / 9, reduction="sum")
    return F.cross_entropy(logits, labels), of_boxes / len(labels)


def _are_boxes(heads: Any, targets: list[dict[str, Tensor]] | None) -> bool:
    """Whether there is nothing but boxes to learn, of the dtypes that torchvision asks for, by its
    own loss."""
    return (
        targets is not None
        and not (heads.has_mask() or heads.has_keypoint())
        and roi_heads.fastrcnn_loss.__module__ == roi_heads.__name__
        and all(t["boxes"].dtype in _FLOATS and t["labels"].dtype == torch.int64 for t in targets)
    )
