"""A recipe that fits the data and the machine, with the reason for every value."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from detcenter.recipe.anchors import fitting_anchors, fitting_strides
from detcenter.recipe.config import Config, DataConfig, differences
from detcenter.recipe.facts import Facts, Machine
from detcenter.recipe.orientation import flips, turns

GIVEN = "as it was given to detcenter init"
_PATCH = 32  # pixels that a cell of the coarsest map covers; images are multiples of it
_MANY_CLASSES = 20  # with forty the term cost one pair of three eight points (docs/study.md)
_GIB_AT_800 = 2.5  # memory an image of 800 x 800 takes, at most, in a Faster R-CNN on ResNet-50


class Line(NamedTuple):
    """The value of a key, and why."""

    value: Any
    why: str


class Draft:
    """Lines by their dotted key, in the order they are settled; what was given stays as it is."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.lines: dict[str, Line] = {}

    def settle(self, key: str, value: Any, why: str) -> Any:
        """Write ``value``, or what was given instead; returns what was written."""
        line = Line(self.given[key], GIVEN) if key in self.given else Line(value, why)
        self.lines[key] = line
        return line.value


def propose(
    facts: Facts,
    data: DataConfig,
    machine: Machine,
    given: Mapping[str, Any],
    downloaded: Callable[[str], str | None],
) -> dict[str, Line]:
    """All lines of a recipe, by their dotted key.

    Args:
        facts: of the training images; one object at least.
        data: how they are read, with layout and parts found out.
        machine: that will train.
        given: values by dotted key that are kept, and that the others are fitted to.
        downloaded: the name of a backbone's weight set that need not be downloaded any more.
    """
    draft = Draft(given)
    _model(draft, facts, machine, downloaded)
    _data(draft, facts, data, machine)
    steps = _train(draft, facts, machine)
    if "center" not in given:  # null
        _center(draft, facts, steps)
    for key in [key for key in given if key not in draft.lines]:
        draft.settle(key, None, GIVEN)
    order = [section.name for section in dataclasses.fields(Config)]
    keys = sorted(draft.lines, key=lambda key: order.index(key.partition(".")[0]))
    return {key: draft.lines[key] for key in keys}


def image_size_for(facts: Facts, gpu: bool) -> int:
    """Pixels, square, at which nine of ten objects are about as large as a detector wants them.

    That is 16 pixels, two cells of the finest map, or on a GPU 32. Between 320 and 512, on a GPU
    between 512 and 1024, but no more than the images have themselves; a multiple of 32.
    """
    least, most, wanted = (512, 1024, 32) if gpu else (320, 512, 16)
    small = float(np.quantile(_sides(facts.boxes), 0.1))
    own = max(128, math.ceil(max(facts.width, facts.height) / _PATCH) * _PATCH)
    return min(own, most, max(least, round(wanted / small / _PATCH) * _PATCH))


def epochs_for(images: int, gpu: bool) -> int:
    """So many that 12,000 images are seen, 40,000 on a GPU; 10 to 100, or 12 to 200."""
    seen, least, most = (40_000, 12, 200) if gpu else (12_000, 10, 100)
    return max(least, min(most, round(seen / images)))


def batch_size_for(images: int, image_size: int, gpu_gib: float | None) -> int:
    """8, on a GPU 16 if so many fit, and no more than there are images."""
    if gpu_gib is None:
        return min(8, images)
    fitting = int(0.8 * gpu_gib / (_GIB_AT_800 * (image_size / 800) ** 2))
    return max(1, min(16, 2 ** int(math.log2(max(1, fitting))), images))


def workers_for(machine: Machine) -> int:
    """A GPU waits for them; on a CPU they take their cores from the training."""
    if machine.gpu_gib is None:
        return min(4, machine.cores // 2)
    return min(8, machine.cores - 1)


def _model(
    draft: Draft, facts: Facts, machine: Machine, downloaded: Callable[[str], str | None]
) -> None:
    gpu = machine.gpu_gib is not None
    if gpu:
        why = "center loss gained AP on it, and not on an SSD (docs/study.md)"
    else:
        why = (
            "trains two to three times as fast as fasterrcnn without a GPU; but center loss gained "
            "AP on that alone (docs/study.md): detcenter init FOLDER --model.name fasterrcnn"
        )
    name = draft.settle("model.name", "fasterrcnn" if gpu else "ssd", why)
    _backbone(draft, gpu, downloaded)
    if _pretrained(draft):
        why = "the statistics that the weights came with; those of small batches are worse"
        draft.settle("model.frozen_batch_norm", True, why)
        why = "the last ones of five stages; the first find edges, the same in all images"
        draft.settle("model.trainable_backbone_layers", 3, why)
    size = draft.settle("model.image_size", image_size_for(facts, gpu), "")
    _say_sizes(draft, facts, size)
    _anchors(draft, facts, size, name)
    if size < 256 and draft.lines["model.strides"].value[-1] <= 16:
        why = "the coarsest map that is made; coarser ones say little of so small images"
        draft.settle("model.top_stride", 16, why)
    if name == "fasterrcnn" and not gpu:
        _fewer_proposals(draft)


def _backbone(draft: Draft, gpu: bool, downloaded: Callable[[str], str | None]) -> None:
    scratch = draft.given.get("model.weights_backbone", "DEFAULT") is None
    if scratch and "model.weights" not in draft.given:
        draft.settle("model.backbone", "resnet18", "learns quickly without pretrained weights")
    elif gpu:
        why = "the network that looks at the image; a GPU can afford this one"
        draft.settle("model.backbone", "resnet50", why)
    else:
        why = "the network that looks at the image; light enough for a CPU"
        draft.settle("model.backbone", "mobilenet_v2", why)
    if "model.weights" in draft.given:
        draft.settle("model.weights", None, GIVEN)
        return
    at_hand = None if scratch else downloaded(draft.lines["model.backbone"].value)
    why = "ImageNet's, downloaded on first use; without a network see docs/install.md"
    if at_hand is not None:
        why = "ImageNet's, already downloaded"
    draft.settle("model.weights_backbone", at_hand or "DEFAULT", why)


def _pretrained(draft: Draft) -> bool:
    of_weights = [draft.lines.get(f"model.{key}") for key in ("weights", "weights_backbone")]
    return any(line is not None and line.value is not None for line in of_weights)


def _say_sizes(draft: Draft, facts: Facts, size: int) -> None:
    if "model.image_size" not in draft.given:
        small, middle, large = np.quantile(_sides(facts.boxes), [0.1, 0.5, 0.9]) * size
        why = (
            f"images become squares of this side, in pixels; 9 of 10 objects are then {small:.0f} "
            f"or larger, half {middle:.0f}, 1 of 10 {large:.0f}"
        )
        draft.lines["model.image_size"] = Line(size, why)


def _anchors(draft: Draft, facts: Facts, size: int, name: Any) -> None:
    if name == "fcos":
        why = "pixels from point to point of each map that finds objects; for the objects' sizes"
        draft.settle("model.strides", fitting_strides(facts.boxes, size), why)
        return
    strides, scales, ratios = fitting_anchors(facts.boxes, size, name)
    why = "pixels from cell to cell of each map that finds objects; as wide as these allow"
    draft.settle("model.strides", strides, why)
    why = "sides of the anchors of each stride, as parts of the image's; fitted to the objects"
    draft.settle("model.anchor_scales", scales, why)
    draft.settle("model.aspect_ratios", ratios, "width by height of the anchors, fitted likewise")


def _fewer_proposals(draft: Draft) -> None:
    why = "boxes of an image to learn classes from; torchvision's 512 are for a GPU"
    draft.settle("model.options.box_batch_size_per_image", 64, why)
    why = "boxes of an image that are looked at, few for the same reason"
    draft.settle("model.options.rpn_post_nms_top_n_train", 500, why)
    draft.settle("model.options.rpn_post_nms_top_n_test", 100, "the same when it detects")


def _center(draft: Draft, facts: Facts, steps: int) -> None:
    name = draft.lines["model.name"].value
    if name != "fasterrcnn":
        why = "vectors with a softmax of their own, which may lift an SSD's AP (docs/study.md)"
        features = draft.settle("center.features", "embedding", why)
    else:
        features = draft.settle("center.features", "box", "the vectors that the class is told by")
    if features != "box":
        why = "makes the features of a class compact; no effect on AP so far (docs/study.md)"
        draft.settle("center.weight", 0.3, why)
        return
    draft.settle("center.weight", 3.0, "what gained AP where it was tested (docs/study.md)")
    if not _pretrained(draft) and len(facts.classes) >= _MANY_CLASSES:
        why = (
            "steps until the weight is full; with many classes and no pretrained weights a start "
            "with all of it cost one run eight points"
        )
        draft.settle("center.warmup_steps", steps // 2, why)


def _data(draft: Draft, facts: Facts, data: DataConfig, machine: Machine) -> None:
    for key in ("format", "root", "train"):
        draft.lines[f"data.{key}"] = Line(getattr(data, key), "")
    why = "share of data.train that is held out" if isinstance(data.val, float) else ""
    draft.lines["data.val"] = Line(data.val, why)
    for key, value, _ in differences(Config(data=data), Config()):
        if key.startswith("data.") and not key.startswith(("data.augment", "data.workers")):
            draft.lines.setdefault(key, Line(value, ""))
    draft.settle("data.augment.preset", "light", "mild crops and colours, for short trainings")
    draft.settle("data.augment.flip", *flips(facts.classes, facts.symmetry))
    draft.settle("data.augment.rotate90", *turns(facts.classes, facts.symmetry))
    why = "processes that load images, on the cores that the training leaves"
    draft.settle("data.workers", workers_for(machine), why)


def _train(draft: Draft, facts: Facts, machine: Machine) -> int:
    """Returns the steps of the training."""
    gpu = machine.gpu_gib is not None
    epochs = epochs_for(facts.images, gpu)
    why = f"times that each image is seen, {epochs * facts.images:,} images in all"
    epochs = draft.settle("train.epochs", epochs, why)
    size = draft.lines["model.image_size"].value
    batch = batch_size_for(facts.images, size, machine.gpu_gib)
    why = "should fit the GPU's memory" if gpu else "larger batches save no time on a CPU"
    batch = draft.settle("train.batch_size", batch, f"images a step; {why}")
    draft.settle("train.optimizer", "adamw", "")
    rate = 0.002 if draft.lines["model.name"].value == "ssd" else 0.001
    rate = float(f"{rate * math.sqrt(batch / 8):.1g}")
    why = "learning rate for this batch size; halve it if the losses do not fall"
    draft.settle("train.lr", rate, why)
    if _pretrained(draft):
        draft.settle("train.backbone_lr_factor", *_backbone_lr(draft))
    draft.settle("train.weight_decay", 0.01, "")
    draft.settle("train.schedule", "cosine", "lr falls to nothing until the last epoch")
    steps = epochs * max(1, facts.images // batch)
    why = f"of {steps} steps, in which lr rises"
    draft.settle("train.warmup_steps", max(1, min(500, steps // 20)), why)
    if machine.bf16:
        draft.settle("train.mixed_precision", "bf16", "faster on this GPU")
    draft.settle("train.channels_last", True, "a memory format that suits convolutions")
    why = "epochs from one measurement to the next, as measuring takes time too"
    draft.settle("train.eval_every", math.ceil(epochs / 12), why)
    return steps


def _backbone_lr(draft: Draft) -> tuple[float, str]:
    """As a part of the learning rate, and why."""
    if draft.lines["model.name"].value == "fasterrcnn":
        return 0.2, "times lr; pretrained layers want to be changed little"
    if draft.lines["model.strides"].value[-1] >= _PATCH:
        return 0.3, "times lr; at 1 the map of stride 32 may die, and large objects go unseen"
    return 1.0, "times lr; take 0.3 if you add anchors at stride 32"


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Square roots of the areas, as parts of the image's side."""
    return np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
