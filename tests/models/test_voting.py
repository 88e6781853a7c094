"""detcenter.vote, against a loop over boxes and classes in numpy."""

import copy
import io
import math
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from detcenter import (
    CenterLoss,
    Embedding,
    attach,
    box_features,
    detach,
    detect_with_features,
    fast,
    set_l2_softmax,
    vote,
)
from detcenter.models import terms_of
from detcenter.training import averaged
from detcenter.waits import counted_waits, pretended_cuda
from tests.tiny_detectors import BUILDERS, CLASSES, SIZE, Backbone, batch, built

SCALE = 8.0


def with_parts(kind):
    """A faster R-CNN that finds masks or keypoints too."""
    pool, larger = (MultiScaleRoIAlign(["fine", "coarse"], n, 2, canonical_scale=32) for n in (3, 6))
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


def opinionated(model):
    """With an embedding that is as sure of its classes as a trained one, and with 3 candidates in
    10 boxes or so."""
    attach(model, features=Embedding(dim=8))
    with torch.no_grad():
        terms_of(model).embedding.classifier.weight *= 20
        for projection in terms_of(model).embedding.projections:
            projection.weight *= 3
        terms_of(model).center.losses[0].centers[1:] = torch.randn(CLASSES - 1, 8)
    best = sorted(own_scores(model, box).max() for box in boxes_in(model.eval(), batch(2)[0]))
    few = best[len(best) * 6 // 10 : len(best) * 8 // 10]
    gap = int(np.diff(few).argmax())  # so that rounding moves no score over the threshold
    part_of(model).score_thresh = float(few[gap] + few[gap + 1]) / 2
    return model


@pytest.fixture(params=BUILDERS)
def model(request):
    """Of every family."""
    return opinionated(made(request.param))


@pytest.fixture
def ssd():
    return opinionated(made("ssd"))


@pytest.fixture
def images():
    return batch(2)[0]


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
                of_center = made["bbox_ctrness"][image, anchor, 0] if "bbox_ctrness" in made else None
                logits = made["cls_logits"][image, anchor]
                found.append(Box(level, x[image, :, row, column], logits, of_center))
                anchor += 1
    return found


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def opinion(terms, by, box):
    """The embedding's posterior."""
    embedding = terms.embedding
    at = linear(embedding.projections[box.level], box.vector)
    if by == "softmax":
        return softmax(linear(embedding.classifier, at))
    centers = terms.center.losses[0].centers.double().numpy()[1:]
    cosines = [at @ c / np.linalg.norm(at) / np.linalg.norm(c) for c in centers]
    return softmax(SCALE * np.array(cosines))


def linear(layer, vector):
    weight, bias = (x.detach().double().numpy() for x in (layer.weight, layer.bias))
    return weight @ vector + bias


def geometric_mean(own, other, weight):
    mean = np.array([p ** (1 - weight) * q**weight for p, q in zip(own, other, strict=True)])
    return mean / mean.sum()


def own_scores(model, box):
    """Without background."""
    if not isinstance(model, RetinaNet | FCOS):
        return softmax(box.logits)[1:]
    p = sigmoid(box.logits[1:])
    return p if box.centerness is None else np.sqrt(p * sigmoid(box.centerness))


def mixed(model, box, other, weight):
    """The logits of a box with the posterior ``other`` mixed in."""
    if not isinstance(model, RetinaNet | FCOS):
        p = softmax(box.logits)
        p_object = p[1:].sum()
        return np.log([p[0], *p_object * geometric_mean(p[1:] / p_object, other, weight)])
    p = sigmoid(box.logits[1:])
    odds = p / (1 - p)
    changed = odds.sum() * geometric_mean(odds / odds.sum(), other, weight)
    return np.array([box.logits[0], *np.log(changed)])


def by_loop(model, images, by, weight):
    """What torchvision detects with logits that the loop has mixed, and the number of candidates."""
    plain = fast(vote(copy.deepcopy(model), None), False)
    count, rows = 0, []
    for box in boxes_in(plain, images):
        rows.append(box.logits)
        if max(own_scores(plain, box)) > part_of(plain).score_thresh:
            rows[-1] = mixed(plain, box, opinion(terms_of(plain), by, box), weight)
            count += 1

    def replaced(_, __, made):
        logits = torch.tensor(np.array(rows), dtype=torch.float32)
        if isinstance(made, tuple):
            return logits, made[1]
        return made | {"cls_logits": logits.view_as(made["cls_logits"])}

    hook = reader_of(plain).register_forward_hook(replaced)
    found = detections(plain, images)
    hook.remove()
    return found, count


@pytest.mark.parametrize("kind", [*BUILDERS, MaskRCNN, KeypointRCNN], ids=str)
def test_detections_are_those_of_a_loop_over_boxes_and_classes(kind, images):
    model = opinionated(made(kind))
    own = detections(model, images)
    for by, weight in (("softmax", 0.5), ("softmax", 1.0), ("centers", 0.3)):
        expected, count = by_loop(model, images, by, weight)
        assert count > 3 and sum(len(found["boxes"]) for found in expected) > 3
        vote(model, weight, by=by, scale=SCALE)
        for voting in (fast(copy.deepcopy(model)), fast(copy.deepcopy(model), False)):
            check(detections(voting, images), expected)
        scores = [torch.cat([x["scores"] for x in of]) for of in (own, expected)]
        assert len(scores[0]) != len(scores[1]) or (scores[0] - scores[1]).abs().max() > 0.01
    check(detections(vote(model, None), images), own, exact=True)


def test_one_box_by_hand(ssd):
    """0.2 background, then 0.4, 0.3 and 0.1; the embedding says 0.1, 0.8 and 0.1. Half each, the
    roots of 0.5 * 0.1, 0.375 * 0.8 and 0.125 * 0.1 are 0.2236, 0.5477 and 0.1118, over 0.8831."""
    embedding = terms_of(ssd).embedding
    with torch.no_grad():
        embedding.classifier.weight.zero_()
        embedding.classifier.bias.copy_(torch.tensor([0.1, 0.8, 0.1]).log())
    logits = torch.tensor([0.2, 0.4, 0.3, 0.1]).log()
    ssd.head.classification_head.register_forward_hook(lambda _, __, y: logits.expand_as(y).clone())
    image = torch.rand(3, SIZE, SIZE)
    ssd.score_thresh = 0.35
    for weight, label, score in ((None, 1, 0.4), (0.5, 2, 0.8 * 0.5477 / 0.8831), (1, 2, 0.64)):
        (found,) = detections(vote(ssd, weight), [image])
        assert found["labels"].unique().tolist() == [label]
        assert found["scores"].unique().tolist() == pytest.approx([score], abs=1e-4)
    # Not a candidate by its own scores, it is not looked at, however sure the embedding is.
    ssd.score_thresh = 0.45
    assert len(detections(ssd, [image])[0]["boxes"]) == 0
