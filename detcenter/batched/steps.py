"""The forward of R-CNNs, RetinaNet and FCOS, in which nothing waits for the check of each image."""

from typing import Any

from torch import Tensor

from detcenter.batched.inputs import Targets, maps_of, prepared
from detcenter.batched.lent import Batched


class RCNNStep(Batched):
    """Lent to an R-CNN."""

    def forward(self: Any, images: list[Tensor], targets: Targets | None = None) -> Any:
        given = prepared(self, images, targets)
        batch, targets = given.batch, given.targets
        maps = maps_of(self, batch)
        given.check_boxes()
        proposals, of_proposals = self.rpn(batch, maps, targets)
        found, of_heads = self.roi_heads(maps, proposals, batch.image_sizes, targets)
        found = self.transform.postprocess(found, batch.image_sizes, given.sizes)
        return self.eager_outputs(of_heads | of_proposals, found)


class _DenseStep(Batched):
    def forward(self: Any, images: list[Tensor], targets: Targets | None = None) -> Any:
        given = prepared(self, images, targets)
        batch, targets = given.batch, given.targets
        maps = list(maps_of(self, batch).values())
        outputs = self.head(maps)
        anchors = self.anchor_generator(batch, maps)
        cells = [x.shape[2] * x.shape[3] for x in maps]
        given.check_boxes()
        losses: dict[str, Tensor] = {}
        found: list[dict[str, Tensor]] = []
        if self.training:
            losses = self.compute_loss(targets, outputs, anchors, *self._of_levels(cells))
        else:
            per_cell = outputs["cls_logits"].shape[1] // sum(cells)
            sizes = [per_cell * n for n in cells]
            split = {name: list(x.split(sizes, dim=1)) for name, x in outputs.items()}
            of_levels = [list(x.split(sizes)) for x in anchors]
            found = self.postprocess_detections(split, of_levels, batch.image_sizes)
            found = self.transform.postprocess(found, batch.image_sizes, given.sizes)
        return self.eager_outputs(losses, found)


class RetinaNetStep(_DenseStep):
    """Lent to a RetinaNet."""

    def _of_levels(self, _: list[int]) -> list[list[int]]:
        return []


class FCOSStep(_DenseStep):
    """Lent to an FCOS, whose losses take the numbers of points a level."""

    def _of_levels(self, cells: list[int]) -> list[list[int]]:
        return [cells]
