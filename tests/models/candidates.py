"""The boxes of torchvision's heads one by one, and detections with some of them changed."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FCOS, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from tests.tiny_detectors import CLASSES, SIZE, Backbone, batch, built


def with_parts(kind):
    """A faster R-CNN that finds masks or keypoints too."""
    pool, larger = (
        MultiScaleRoIAlign(["fine", "coarse"], n, 2, canonical_scale=32) for n in (3, 6)
    )
    own = {
        "rpn_anchor_generator": AnchorGenerator(((16, 24), (32, 48)), ((0.5, 1.0),) * 2),
        "box_roi_pool": pool,
        "box_head": TwoMLPHead(32 * 3 * 3, 32),
        "box_predictor": FastRCNNPredictor(32, CLASSES),
    }
    if kind is MaskRCNN:
        heads = MaskRCNNHeads(32, (8,), 1), MaskRCNNPredictor(8, 8, CLASSES)
        own |= dict(zip(("mask_head", "mask_predictor"), heads, strict=True))
        return kind(Backbone(), None, SIZE, SIZE, mask_roi_pool=larger, **own)
    heads = KeypointRCNNHeads(32, (8,)), KeypointRCNNPredictor(8, 5)
    own |= dict(zip(("keypoint_head", "keypoint_predictor"), heads, strict=True))
    return kind(Backbone(), None, SIZE, SIZE, keypoint_roi_pool=larger, **own)


def part_of(model):
    return getattr(model, "roi_heads", model)


def reader_of(model):
    return model.roi_heads.box_predictor if hasattr(model, "roi_heads") else model.head


def made(kind):
    """A model of a family of tiny detectors, or one with masks or keypoints."""
    if isinstance(kind, str):
        model = built(kind)
    else:
        torch.manual_seed(3)
        model = with_parts(kind)
        nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.4)
    if hasattr(model, "rpn"):
        model.rpn._post_nms_top_n["testing"] = 40
    return model


def detections(model, images):
    with torch.inference_mode():
        return model(images)


def check(found, expected, exact=False):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            if exact:
                assert torch.equal(one[key], value), key
            else:
                torch.testing.assert_close(one[key], value, rtol=1e-4, atol=1e-4)


def seen_in(model, images):
    """What the backbone and the reader of torchvision's own model gave: maps, read, outputs."""
    seen = {}
    hooks = [
        model.backbone.register_forward_hook(lambda _, x, y: seen.update(maps=y)),
        reader_of(model).register_forward_hook(lambda _, x, y: seen.update(read=x[0], made=y)),
    ]
    detections(model, images)
    for hook in hooks:
        hook.remove()
    return seen


class Box(NamedTuple):
    """Of the loop: an anchor in an image, or a proposal."""

    level: int
    vector: np.ndarray
    logits: np.ndarray
    centerness: float | None


def boxes_in(model, images):
    """In torchvision's order."""
    seen = seen_in(model, images)
    if hasattr(model, "roi_heads"):
        pairs = zip(seen["read"].double().numpy(), seen["made"][0].double().numpy(), strict=True)
        return [Box(0, vector, logits, None) for vector, logits in pairs]
    made = {name: x.double().numpy() for name, x in seen["made"].items()}
    maps = [x.double().numpy() for x in seen["maps"].values()]
    per_cell = model.anchor_generator.num_anchors_per_location()
    found = []
    for image in range(len(images)):
        anchor = 0
        for level, (x, n) in enumerate(zip(maps, per_cell, strict=True)):
            for row, column, _ in np.ndindex(*x.shape[2:], n):
                of_center = (
                    made["bbox_ctrness"][image, anchor, 0] if "bbox_ctrness" in made else None
                )
                logits = made["cls_logits"][image, anchor]
                found.append(Box(level, x[image, :, row, column], logits, of_center))
                anchor += 1
    return found


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(layer, vector):
    weight, bias = (x.detach().double().numpy() for x in (layer.weight, layer.bias))
    return weight @ vector + bias


def own_scores(model, box):
    """Without background."""
    if not isinstance(model, RetinaNet | FCOS):
        return softmax(box.logits)[1:]
    p = sigmoid(box.logits[1:])
    return p if box.centerness is None else np.sqrt(p * sigmoid(box.centerness))


def with_candidates(model, share):
    """In eval mode, with about this share of the boxes of a batch as candidates."""
    best = sorted(own_scores(model, box).max() for box in boxes_in(model.eval(), batch(2)[0]))
    middle = len(best) * (10 - round(10 * share)) // 10
    few = best[middle - len(best) // 10 : middle + len(best) // 10]
    gap = int(np.diff(few).argmax())  # so that rounding moves no score over the threshold
    part_of(model).score_thresh = float(few[gap] + few[gap + 1]) / 2
    return model


def by_loop(plain, images, change):
    """What a model of torchvision's detects with the logits of candidates changed, and how many.

    There may be more classes then. Of an R-CNN their boxes are those of the likeliest own class.
    """
    own = boxes_in(plain, images)
    candidate = [max(own_scores(plain, box)) > part_of(plain).score_thresh for box in own]
    pairs = zip(own, candidate, strict=True)
    rows = [change(box) if chosen else box.logits for box, chosen in pairs]
    more = max(map(len, rows)) - len(own[0].logits)
    lacking = [np.full(len(own[0].logits) + more - len(row), -np.inf) for row in rows]
    padded = np.array([np.append(*pair) for pair in zip(rows, lacking, strict=True)])

    def replaced(_, __, made):
        logits = torch.tensor(padded, dtype=torch.float32)
        if not isinstance(made, tuple):
            return made | {"cls_logits": logits.view(*made["cls_logits"].shape[:2], -1)}
        best = [1 + int(np.argmax(box.logits[1:])) for box in own]
        codes = [row[4 * k : 4 * k + 4].repeat(more) for row, k in zip(made[1], best, strict=True)]
        return logits, torch.cat([made[1], torch.stack(codes)], 1)

    hook = reader_of(plain).register_forward_hook(replaced)
    found = detections(plain, images)
    hook.remove()
    return found, sum(candidate)
