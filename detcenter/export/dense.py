"""SSD, RetinaNet and FCOS in a graph for images of one size."""

from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from detcenter.batched.boxes import boxes_at
from detcenter.batched.inputs import maps_of
from detcenter.export.graph import Candidates, inside, thoughts_of
from detcenter.models import family_of, terms_of
from detcenter.models.candidates import reconsidering


class DenseEye(nn.Module):
    """Looks with a detector that is :func:`detcenter.fast`; its anchors are constants."""

    anchors: Tensor

    def __init__(self, model: Any, padded: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        blank = ImageList(torch.zeros(1, 3, *padded), [padded])
        maps = list(maps_of(model, blank).values())
        self.cells = [x.shape[2] * x.shape[3] for x in maps]
        (anchors,) = model.anchor_generator(blank, maps)
        self.register_buffer("anchors", anchors.clone(), persistent=False)

    def forward(self, batch: Tensor, corners: Tensor) -> "_Seen":
        return _Seen(self, batch, corners)


class _Seen:
    def __init__(self, eye: DenseEye, batch: Tensor, corners: Tensor) -> None:
        self.model: Any = eye.model
        self.anchors, self.cells, self.corners = eye.anchors, eye.cells, corners
        self.maps = list(maps_of(self.model, ImageList(batch, [])).values())
        self.thoughts = thoughts_of(self.model)
        with reconsidering(self.model, self.thoughts) if self.thoughts else nullcontext():
            self.outputs: dict[str, Tensor] = self.model.head(self.maps)

    def all_boxes(self) -> tuple[Tensor, Tensor]:
        anchors = self.anchors.expand(self.outputs["cls_logits"].shape[0], -1, -1)
        return self._boxes(self.outputs["bbox_regression"], anchors), self._scores(self.outputs)

    def candidates(self) -> Candidates:
        model = self.model
        found = self._of_classes() if isinstance(model, SSD) else self._of_levels()
        return Candidates(*found, model.score_thresh, model.nms_thresh, model.detections_per_img)

    def features(self, boxes: Tensor) -> Tensor:
        family: Any = family_of(self.model)
        (chosen,) = family._anchors_of(self.model, [self.anchors], [boxes.flatten(0, 1)])
        self.chosen = chosen.view(boxes.shape[:2])
        levels = self._vectors(self.chosen)
        terms = terms_of(self.model)
        term = terms.named(None)
        if term is not None and term.embedded:
            projections = cast(Any, terms["embedding"]).projections
            levels = [(at, f(x)) for f, (at, x) in zip(projections, levels, strict=True)]
        of_levels = [x.where(at.unsqueeze(2), 0.0) for at, x in levels]
        alike = len({int(x.shape[2]) for x in of_levels}) == 1
        placed = torch.stack(of_levels).sum(0) if alike else torch.cat(of_levels, 2)
        return placed.flatten(0, 1)

    def logits(self) -> Tensor:
        """A vote and enrolled classes have no part in them."""
        outputs = self.model.head(self.maps) if self.thoughts else self.outputs
        all_logits = outputs["cls_logits"]
        at = self.chosen.unsqueeze(2).expand(-1, -1, all_logits.shape[2])
        logits = all_logits.gather(1, at).flatten(0, 1)
        if isinstance(self.model, SSD):
            return logits
        return torch.cat([torch.zeros_like(logits[:, :1]), logits[:, 1:]], 1)

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        """By label, [N, A, C]."""
        if isinstance(self.model, SSD):
            return F.softmax(outputs["cls_logits"], -1)
        scores: Tensor = self.model._scores(outputs)
        return scores

    def _boxes(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """Of codes and anchors [N, A, 4]."""
        coder = self.model.box_coder
        decode = coder.decode_single if isinstance(self.model, SSD) else self.model._decoded
        boxes: Tensor = decode(codes.flatten(0, 1), anchors.flatten(0, 1))
        return inside(boxes.view(codes.shape), self.corners)

    def _of_classes(self) -> tuple[Tensor, Tensor, int]:
        """Of each class the best candidates, ties with the last of them included."""
        boxes, scores = self.all_boxes()
        scores = scores[..., 1:].transpose(1, 2)
        most = self.model.topk_candidates
        if most < int(scores.shape[2]):
            least = scores.topk(most, 2).values[..., -1:]
            scores = scores.where(scores >= least, -torch.inf)
        return boxes, scores, 1

    def _of_levels(self) -> tuple[Tensor, Tensor, int]:
        """Of each level the best candidates, whatever their class."""
        classes = self.outputs["cls_logits"].shape[2]
        sizes = [per_cell * n for per_cell, n in zip(self._per_cell(), self.cells, strict=True)]
        split = [x.split(sizes, 1) for x in self.outputs.values()]
        first, found = 0, []
        for size, parts in zip(sizes, zip(*split, strict=True), strict=True):
            outputs = dict(zip(self.outputs, parts, strict=True))
            scores = self._scores(outputs).flatten(1)
            values, at = scores.topk(min(self.model.topk_candidates, size * classes))
            codes = boxes_at(outputs["bbox_regression"], at // classes)
            boxes = self._boxes(codes, self.anchors[at // classes + first])
            found.append((boxes, values, at % classes))
            first += size
        boxes, values, labels = (torch.cat(x, 1) for x in zip(*found, strict=True))
        of_label = torch.arange(classes, device=labels.device).view(1, -1, 1)
        scores = values.unsqueeze(1).where(labels.unsqueeze(1) == of_label, -torch.inf)
        return boxes, scores, 0

    def _per_cell(self) -> list[int]:
        found: list[int] = self.model.anchor_generator.num_anchors_per_location()
        return found

    def _vectors(self, chosen: Tensor) -> list[tuple[Tensor, Tensor]]:
        """By level, which of the anchors [N, M] lie there, and the vectors of their cells (of the
        others, of any cell), [N, M, D]."""
        found, start = [], 0
        for x, n, cells in zip(self.maps, self._per_cell(), self.cells, strict=True):
            here = (chosen >= start) & (chosen < start + n * cells)
            cell = ((chosen - start) // n).clamp(0, cells - 1)
            at = cell.unsqueeze(2).expand(-1, -1, x.shape[1])
            found.append((here, x.flatten(2).transpose(1, 2).gather(1, at)))
            start += n * cells
        return found
