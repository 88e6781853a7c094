"""What is particular to each family of torchvision's detectors."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.ssd import SSD

from detcenter.models.box_vectors import BoxVectorHead
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

    def reader(self, model: Any) -> nn.Module:
        """The part that reads the vectors and gives the class logits."""

    def matcher(self, model: Any) -> nn.Module:
        """The part that computes losses from what it has matched."""

    def listeners(self, model: Any) -> dict[nn.Module, type[Listener]]:
        """The parts that note what :meth:`positives` needs."""

    def positives(self, model: Any, notes: Mapping[nn.Module, Notes]) -> list[Positives]:
        """The matched boxes of a batch, by level."""

    def vectors(
        self, model: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """By level, which of all ``boxes`` lie there, [M_l], and their vectors, [M_l, D_l]."""

    def logits(
        self, model: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
    ) -> Tensor:
        """The class logits of all ``boxes``, [M, C], by a softmax or by sigmoids."""


class _OfCells:
    """Detectors that classify every cell of several maps."""

    source: Source = "cell"
    own_by_default = False
    matches_boxes = True

    def levels(self, model: Any) -> int:
        return len(_per_cell(model))

    def feature_widths(self, model: Any) -> list[int] | None:
        return [layers[0].in_channels for layers in self._class_layers(model)] or None

    def num_classes(self, model: Any) -> int | None:
        layers = self._class_layers(model)
        return layers[0][-1].out_channels // _per_cell(model)[0] if layers else None

    def classifiers(self, model: Any) -> list[nn.Module]:
        return list(dict.fromkeys(layers[-1] for layers in self._class_layers(model)))

    def heads(self, model: Any) -> list[nn.Module]:
        return [model.head]

    def reader(self, model: Any) -> nn.Module:
        return _inner(model.head)

    def matcher(self, model: Any) -> nn.Module:
        return self.reader(model)

    def listeners(self, model: Any) -> dict[nn.Module, type[Listener]]:
        return {self.reader(model): ReadingMatcher}

    def positives(self, model: Any, notes: Mapping[nn.Module, Notes]) -> list[Positives]:
        read, (*_, matched) = (
            notes[self.reader(model)]["read"],
            notes[self.matcher(model)]["matched"],
        )
        if not read:
            raise RuntimeError(
                f"{type(model.head).__name__} was wrapped, or its forward exchanged: the terms of "
                f"{type(model).__name__} do not learn what it reads"
            )
        # The maps from which the outputs were made that were matched; the last if none is known.
        maps = next((x for x, y in read if y is matched["head_outputs"]), read[-1][0])
        parts = matched["targets"], matched["anchors"], matched["matched_idxs"]
        return positive_cells(maps, _per_cell(model), *parts)

    def vectors(
        self, model: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        anchors = model.anchor_generator(images, list(maps.values()))
        chosen = self._anchors_of(model, anchors, boxes)
        return vectors_at(list(maps.values()), _per_cell(model), chosen)

    def logits(
        self, model: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
    ) -> Tensor:
        """Those of the anchor that stands for each box."""
        anchors = model.anchor_generator(images, list(maps.values()))
        chosen = self._anchors_of(model, anchors, boxes)
        of_anchors = model.head(list(maps.values()))["cls_logits"]
        return torch.cat([x[at] for x, at in zip(of_anchors, chosen, strict=True)])

    def _anchors_of(self, model: Any, anchors: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        return best_anchors(anchors, boxes)

    def _class_layers(self, model: Any) -> list[list[nn.Conv2d]]:
        """The convolutions from a map to its class logits, by level; none if they are unknown."""
        branch = getattr(model.head, "classification_head", None)
        parts = [getattr(branch, name, nn.Identity()) for name in ("conv", "cls_logits")]
        layers = _convolutions(*parts)
        return [layers] * self.levels(model) if len(layers) > 1 else []


class _RetinaNet(_OfCells):
    def owns(self, model: nn.Module) -> bool:
        return isinstance(model, RetinaNet)


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
        return {self.reader(model): Reader, model: Matcher}

    def matcher(self, model: Any) -> nn.Module:
        found: nn.Module = model
        return found

    def num_classes(self, model: Any) -> int | None:
        branch = self._branch(model)
        if isinstance(branch, BoxVectorHead):
            return branch.classify.out_features
        return super().num_classes(model)

    def classifiers(self, model: Any) -> list[nn.Module]:
        branch = self._branch(model)
        if isinstance(branch, BoxVectorHead):
            return [branch.classify]
        return super().classifiers(model)

    def _class_layers(self, model: Any) -> list[list[nn.Conv2d]]:
        branch = self._branch(model)
        scoring = branch.vectors if isinstance(branch, BoxVectorHead) else branch
        layers = [_convolutions(level) for level in getattr(scoring, "module_list", ())]
        return layers if all(layers) else []

    def _branch(self, model: Any) -> Any:
        return getattr(model.head, "classification_head", None)


class _RCNN:
    """Faster, Mask and Keypoint R-CNN: the vector that the layer of the class logits reads."""

    source: Source = "box"
    own_by_default = True
    matches_boxes = True

    def owns(self, model: nn.Module) -> bool:
        return isinstance(model, GeneralizedRCNN) and isinstance(_inner(model.roi_heads), RoIHeads)

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
        return {self.matcher(model): Sampler, self.reader(model): Reader}

    def reader(self, model: Any) -> nn.Module:
        return _inner(next(iter(self.classifiers(model)), model.roi_heads.box_predictor))

    def matcher(self, model: Any) -> nn.Module:
        return _inner(model.roi_heads)

    def positives(self, model: Any, notes: Mapping[nn.Module, Notes]) -> list[Positives]:
        (*_, matched) = notes[self.matcher(model)]["matched"]
        targets, label = matched["targets"], torch.cat(matched["labels"])
        features = _vectors_in(notes[self.reader(model)], len(label))
        counts = [len(target["boxes"]) for target in targets]
        first = [sum(counts[:image]) for image in range(len(counts))]
        (at,) = (label > 0).nonzero(as_tuple=True)
        pairs = zip(matched["matched_idxs"], first, strict=True)
        index = torch.cat([of_image + start for of_image, start in pairs])[at]
        boxes = torch.cat([target["boxes"] for target in targets])
        ious = pair_iou(torch.cat(matched["proposals"])[at], boxes[index])
        return [Positives(features[at], label[at], index, ious)]

    def vectors(
        self, model: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """What the classifier would read if the boxes were proposals."""
        pooled = _pooled(model.roi_heads, images, maps, boxes)
        with listening({self.reader(model): Reader}) as notes:
            model.roi_heads.box_predictor(pooled)
        found = _vectors_in(notes[self.reader(model)], len(pooled))
        return [(torch.arange(len(found), device=found.device), found)]

    def logits(
        self, model: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]
    ) -> Tensor:
        """What the classifier would say if the boxes were proposals."""
        made = model.roi_heads.box_predictor(_pooled(model.roi_heads, images, maps, boxes))
        found: Tensor = made[0] if isinstance(made, tuple) else made
        return found


_FAMILIES: tuple[Family, ...] = (_SSD(), _RetinaNet(), _FCOS(), _RCNN())


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
    terms = getattr(model, "box_terms", None)
    return terms if isinstance(terms, BoxTerms) else BoxTerms()


def _pooled(heads: Any, images: ImageList, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
    """What an R-CNN's box head makes of boxes, [M, ...]."""
    # As proposals have it: the pooling takes boxes in the dtype of the maps.
    dtype = next(iter(maps.values())).dtype
    pooled = heads.box_roi_pool(maps, [b.to(dtype) for b in boxes], images.image_sizes)
    made: Tensor = heads.box_head(pooled)
    return made


def _per_cell(model: Any) -> list[int]:
    """Anchors a cell, by level."""
    found: list[int] = model.anchor_generator.num_anchors_per_location()
    return found


def _inner(part: Any) -> Any:
    """``part`` without what `torch.compile` or activation checkpointing wrapped around it."""
    for name in ("_orig_mod", "_checkpoint_wrapped_module"):
        part = getattr(part, name, part)
    return part


def _convolutions(*parts: nn.Module) -> list[nn.Conv2d]:
    return [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)]


def _vectors_in(notes: Notes, count: int) -> Tensor:
    """What the classifier read, [count, D]."""
    sizes = [len(features) for features, _ in notes["read"]]
    if sizes.count(count) != 1:
        raise RuntimeError(
            f"the classifier of the box predictor is due to read {count} boxes once, but read "
            f"{sizes or 'nothing'}: which of it are the features is not clear"
        )
    vectors: Tensor = notes["read"][sizes.index(count)][0]
    return vectors.flatten(1)
