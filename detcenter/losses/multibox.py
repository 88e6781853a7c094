"""The MultiBox loss of SSD (Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcenter.losses.processes import share_of, sum_over_processes


class MultiBoxLoss(nn.Module):
    """Softmax confidence and smooth-L1 localisation over default boxes, hard negatives mined.

    Both sums are divided by the number P of positive default boxes in the batch (section 2.2,
    eq. 1 to 3 of the paper). In each image the ``neg_to_pos_ratio`` x P_image negatives of the
    highest confidence loss count, the others do not. Values and gradients are those of
    torchvision's ``SSD.compute_loss``, also where an image has fewer negatives than are wanted
    (the ranking then runs on into the positives, which count again, as there).

    Args:
        neg_to_pos_ratio: negatives mined for every positive.
        min_negatives: a floor on the negatives mined in an image. At 0, the default and
            torchvision's way, an image without objects teaches nothing. Above 0 the confidence
            loss is divided by (negatives wanted in the batch) / neg_to_pos_ratio, which is P where
            the floor plays no part, so that background images do not outweigh the others.
        over_processes: divide by the numbers of all processes of a distributed training, so that
            the processes' losses and gradients average to those of the joined batch. Off as in
            torchvision, where a box counts for more the fewer its process has.

    Shapes:
        cls_logits [N, A, C]; bbox_regression [N, A, 4]; labels [N, A], the class of each default
        box, 0 for background; regression_targets [N, A, 4], the encoded boxes that the positives
        should predict, any finite numbers elsewhere. Returns the scalars ``bbox_regression`` and
        ``classification``. No shape depends on how many positives there are, so that nothing
        waits for the device and the loss compiles to one graph.

    Raises:
        ValueError: if these shapes do not fit each other.
    """

    def __init__(
        self,
        neg_to_pos_ratio: float = 3.0,
        min_negatives: int = 0,
        over_processes: bool = False,
    ) -> None:
        super().__init__()
        if neg_to_pos_ratio <= 0 or min_negatives < 0:
            raise ValueError(
                "neg_to_pos_ratio must be above 0 and min_negatives at least 0, not "
                f"{neg_to_pos_ratio} and {min_negatives}"
            )
        self.neg_to_pos_ratio = neg_to_pos_ratio
        self.min_negatives = min_negatives
        self.over_processes = over_processes
        self.positives = torch.zeros(())
        """of the last call, in all processes if it is over them: what its losses were divided by"""

    def forward(
        self,
        cls_logits: Tensor,
        bbox_regression: Tensor,
        labels: Tensor,
        regression_targets: Tensor,
    ) -> dict[str, Tensor]:
        shapes = cls_logits.shape[:2], bbox_regression.shape[:2], labels.shape
        if len(set(shapes)) > 1 or bbox_regression.shape != regression_targets.shape:
            raise ValueError(
                "cls_logits [N, A, C], bbox_regression [N, A, 4], labels [N, A] and "
                "regression_targets [N, A, 4] do not fit: "
                f"{list(cls_logits.shape)}, {list(bbox_regression.shape)}, {list(labels.shape)}, "
                f"{list(regression_targets.shape)}"
            )
        positive = labels > 0
        count = positive.sum()
        self.positives = sum_over_processes(count) if self.over_processes else count
        box_loss = F.smooth_l1_loss(bbox_regression, regression_targets, reduction="none")
        box_loss = box_loss.sum(2).where(positive, 0.0)
        return {
            "bbox_regression": box_loss.sum() / self._share(positive.sum()),
            "classification": self._confidence_loss(cls_logits, labels, positive),
        }

    def _confidence_loss(self, cls_logits: Tensor, labels: Tensor, positive: Tensor) -> Tensor:
        loss = F.cross_entropy(cls_logits.flatten(0, 1), labels.flatten(), reduction="none")
        loss = loss.view_as(labels)
        wanted = self.neg_to_pos_ratio * positive.sum(1, keepdim=True)
        wanted = wanted.clamp(min=self.min_negatives)
        counted = positive.to(loss.dtype) + self._mined(loss.detach(), positive, wanted)
        return (loss * counted).sum() / self._share(wanted.sum() / self.neg_to_pos_ratio)

    def _share(self, count: Tensor) -> Tensor:
        return share_of(count) if self.over_processes else count.clamp(min=1)

    @staticmethod
    def _mined(loss: Tensor, positive: Tensor, wanted: Tensor) -> Tensor:
        """1 for the ``wanted`` [N, 1] boxes of the highest loss in each image, else 0; [N, A]."""
        order = loss.masked_fill(positive, -torch.inf).argsort(1, descending=True)
        rank_counts = torch.arange(loss.shape[1], device=loss.device) < wanted
        return torch.zeros_like(loss).scatter_(1, order, rank_counts.to(loss.dtype))
