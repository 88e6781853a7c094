"""What is particular to each family of torchvision's detectors."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.ssd import SSD

from detcenter.models.cells import (
    best_anchors,
    pair_iou,
    positive_cells,
    responsible_points,
    vectors_at,
)
from detcenter.models.listening import (
    Listener,
    Matcher,
    Notes,
    Reader,
    ReadingMatcher,
    Sampler,
    listening,
)
from detcenter.models.terms import BoxTerms, Positives

Source = Literal["cell", "box"]


class Family(Protocol):
    """Detectors whose features are reached in the same way."""

    source: Source
    """what their own vectors are called"""
    own_by_default: bool
    """whether a term reads these unless told otherwise, rather than an embedding of them"""
    matches_boxes: bool
    """whether an object is matched with boxes, which have an IoU, or with points"""

    def owns(self, model: nn.Module) -> bool: ...

    def levels(self, model: Any) -> int:
        """How many feature maps have boxes."""

    def feature_widths(self, model: Any) -> list[int] | None:
        """D of each level's vectors; None where it cannot be read off the model."""

    def num_classes(self, model: Any) -> int | None:
        """C, with background; None likewise."""

    def classifiers(self, model: Any) -> list[nn.Module]:
        """The layers that give the class logits; none where they cannot be told."""

    def heads(self, model: Any) -> list[nn.Module]:
        """What runs on the backbone's maps and depends on no matching."""

    def listeners(self, model: Any) -> dict[nn.Module, type[Listener]]:
        """The parts that note what :meth:`positives` needs."""

    def positives(self, model: Any, notes: Notes) -> list[Positives]:
        """The matched boxes of a batch, by level."""

    def vectors(
        self, model: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """By level, which of all ``boxes`` lie there, [M_l], and their vectors, [M_l, D_l]."""


class _OfCells:
    """Detectors that classify every cell of several maps; RetinaNet, unless said otherwise."""

    source: Source = "cell"
    own_by_default = False
    matches_boxes = True

    def owns(self, model: nn.Module) -> bool:
        return isinstance(model, RetinaNet)

    def levels(self, model: Any) -> int:
        return len(_per_cell(model))

    def feature_widths(self, model: Any) -> list[int] | None:
        return [layers[0].in_channels for layers in self._convolutions(model)] or None

    def num_classes(self, model: Any) -> int | None:
        layers = self._convolutions(model)
        return layers[0][-1].out_channels // _per_cell(model)[0] if layers else None

    def classifiers(self, model: Any) -> list[nn.Module]:
        return list(dict.fromkeys(layers[-1] for layers in self._convolutions(model)))

    def heads(self, model: Any) -> list[nn.Module]:
        return [model.head]

    def listeners(self, model: Any) -> dict[nn.Module, type[Listener]]:
        return {model.head: ReadingMatcher}

    def positives(self, model: Any, notes: Notes) -> list[Positives]:
        matches = (notes[name] for name in ("targets", "anchors", "matched_idxs"))
        return positive_cells(notes["features"], _per_cell(model), *matches)

    def vectors(
        self, model: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        anchors = model.anchor_generator(images, list(maps.values()))
        chosen = self._anchors_of(model, anchors, boxes)
        return vectors_at(list(maps.values()), _per_cell(model), chosen)

    def _anchors_of(self, model: Any, anchors: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        return best_anchors(anchors, boxes)

    def _convolutions(self, model: Any) -> list[list[nn.Conv2d]]:
        """Those of the class branch, from the map to the logits, by level."""
        branch = getattr(model.head, "classification_head", None)
        branches = self._branches(branch, self.levels(model)) if branch is not None else []
        return [[m for m in branch.modules() if isinstance(m, nn.Conv2d)] for branch in branches]

    def _branches(self, branch: Any, levels: int) -> Sequence[nn.Module]:
        return [branch] * levels


class _FCOS(_OfCells):
    matches_boxes = False

    def owns(self, model: nn.Module) -> bool:
        return isinstance(model, FCOS)

    def _anchors_of(self, model: Any, anchors: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        return responsible_points(anchors, boxes, model.center_sampling_radius)


class _SSD(_OfCells):
    def owns(self, model: nn.Module) -> bool:
        return isinstance(model, SSD)

    def listeners(self, model: Any) -> dict[nn.Module, type[Listener]]:
        return {model.head: Reader, model: Matcher}

    def _branches(self, branch: Any, levels: int) -> Sequence[nn.Module]:
        return getattr(branch, "module_list", ())


class _RCNN:
    """Faster, Mask and Keypoint R-CNN: the vector that the layer of the class logits reads."""

    source: Source = "box"
    own_by_default = True
    matches_boxes = True

    def owns(self, model: nn.Module) -> bool:
        return isinstance(model, GeneralizedRCNN) and isinstance(model.roi_heads, RoIHeads)

    def levels(self, model: Any) -> int:
        return 1

    def feature_widths(self, model: Any) -> list[int] | None:
        return [layer.in_features for layer in self.classifiers(model)] or None

    def num_classes(self, model: Any) -> int | None:
        return next((layer.out_features for layer in self.classifiers(model)), None)

    def classifiers(self, model: Any) -> list[Any]:
        """The last linear layer of ``cls_score``, which a predictor of one's own may not have."""
        scores = getattr(model.roi_heads.box_predictor, "cls_score", None)
        layers = scores.modules() if isinstance(scores, nn.Module) else ()
        return [layer for layer in layers if isinstance(layer, nn.Linear)][-1:]

    def heads(self, model: Any) -> list[nn.Module]:
        return [model.rpn.head, model.roi_heads.box_head]

    def listeners(self, model: Any) -> dict[nn.Module, type[Listener]]:
        return {model.roi_heads: Sampler, self._reader(model): Reader}

    def positives(self, model: Any, notes: Notes) -> list[Positives]:
        targets, label = notes["targets"], torch.cat(notes["labels"])
        features = _vectors_in(notes, len(label))
        counts = [len(target["boxes"]) for target in targets]
        first = [sum(counts[:image]) for image in range(len(counts))]
        (at,) = (label > 0).nonzero(as_tuple=True)
        pairs = zip(notes["matched_idxs"], first, strict=True)
        index = torch.cat([matched + start for matched, start in pairs])[at]
        boxes = torch.cat([target["boxes"] for target in targets])
        ious = pair_iou(torch.cat(notes["proposals"])[at], boxes[index])
        return [Positives(features[at], label[at], index, ious)]

    def vectors(
        self, model: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """What the classifier would read if the boxes were proposals."""
        heads = model.roi_heads
        # As proposals have it: the pooling takes boxes in the dtype of the maps.
        dtype = next(iter(maps.values())).dtype
        boxes = [b.to(dtype) for b in boxes]
        pooled = heads.box_head(heads.box_roi_pool(maps, boxes, images.image_sizes))
        with listening({self._reader(model): Reader}) as notes:
            heads.box_predictor(pooled)
        found = _vectors_in(notes, len(pooled))
        return [(torch.arange(len(found), device=found.device), found)]

    def _reader(self, model: Any) -> nn.Module:
        return next(iter(self.classifiers(model)), model.roi_heads.box_predictor)


_FAMILIES: tuple[Family, ...] = (_SSD(), _OfCells(), _FCOS(), _RCNN())


def family_of(model: nn.Module) -> Family:
    """The family that ``model`` belongs to, itself or as a subclass.

    Raises:
        TypeError: if there is none.
    """
    for family in _FAMILIES:
        if family.owns(model):
            return family
    raise TypeError(
        "supported are torchvision's SSD, RetinaNet, FCOS, Faster R-CNN, Mask R-CNN and "
        f"Keypoint R-CNN, not {type(model).__name__}; a model that is wrapped in DDP or compiled "
        "is given before wrapping"
    )


def terms_of(model: nn.Module) -> BoxTerms:
    """The terms that are attached to ``model``; none is an empty :class:`BoxTerms`."""
    family_of(model)
    terms: BoxTerms = getattr(model, "box_terms", BoxTerms())
    return terms


def _per_cell(model: Any) -> list[int]:
    """Anchors a cell, by level."""
    found: list[int] = model.anchor_generator.num_anchors_per_location()
    return found


def _vectors_in(notes: Notes, count: int) -> Tensor:
    """What the classifier read, [count, D]."""
    found = notes.get("features")
    if found is None or len(found) != count:
        read = "nothing" if found is None else f"{len(found)} rows"
        raise RuntimeError(f"the box predictor's classifier read {read} for {count} boxes")
    vectors: Tensor = found.flatten(1)
    return vectors
