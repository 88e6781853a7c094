"""The graph that is exported, run as it is, against the model that it was made of."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.ops import batched_nms

from detcenter.export.build import detector_graph
from tests.export.exported import CASES, WHOLE, Graph, assert_same, built, by_model, noise
from tests.tiny_detectors import CLASSES, SIZE, Backbone


@pytest.mark.parametrize("case", CASES)
def test_it_finds_what_the_model_finds(case):
    model, features = CASES[case](), "features" in case
    graph = Graph(detector_graph(model, features=features))
    for count in (1, 4):
        images = noise(*[WHOLE] * count)
        expected = by_model(model, images, features)
        assert assert_same(graph(images), expected) > 20 * count
        labels = {label for of_image in expected for label in of_image["labels"]}
        assert len(labels) > 1 and (max(labels) >= CLASSES) == ("enrolled" in case)
    if "sizes" in graph.inputs:
        # torchvision pads a batch to its largest image; smaller ones would be scaled up alone.
        images = noise(WHOLE, (40, SIZE), (SIZE, 51), (33, SIZE))
        assert assert_same(graph(images), by_model(model, images, features)) > 80


@pytest.mark.parametrize("family", ["ssd", "retinanet", "fcos"])
def test_without_nms_all_boxes_are_given(family):
    """Against a loop: torchvision's suppression of them gives the model's detections."""
    model = built(family).eval()
    model.score_thresh = 0.05
    graph = Graph(detector_graph(model, nms=False))
    assert graph.graph.outputs == ["boxes", "scores"]
    images = noise(WHOLE, WHOLE)
    raw = {name: torch.from_numpy(x) for name, x in graph.raw(images).items()}
    labels = range(family == "ssd", CLASSES)  # the others score the background like a class
    for boxes, scores, expected in zip(*raw.values(), by_model(model, images, False), strict=True):
        assert scores.shape == (len(boxes), CLASSES)
        above = [(scores[:, label] > model.score_thresh).nonzero().squeeze(1) for label in labels]
        label = torch.cat([torch.full_like(at, n) for n, at in zip(labels, above, strict=True)])
        at = torch.cat(above)
        found = {"boxes": boxes[at], "scores": scores[at, label], "labels": label}
        keep = batched_nms(*found.values(), model.nms_thresh)[: model.detections_per_img]
        keep = keep[label[keep] > 0]
        found = {name: values[keep].numpy() for name, values in found.items()}
        assert assert_same([found], [expected]) > 20


def test_a_size_that_is_no_square_and_needs_padding():
    model = built("retinanet").eval()
    model.transform.min_size, model.transform.max_size = (40,), 80
    made = detector_graph(model, (40, 80))
    assert made.contract["size"] == (40, 80) == made.contract["sides"]
    images = noise((40, 80), (40, 56))
    assert assert_same(Graph(made)(images), by_model(model, images, False)) > 40


class Own(RetinaNet):
    def postprocess_detections(self, *args):
        return super().postprocess_detections(*args)


def own_detections():
    model = built("retinanet")
    model.__class__ = Own
    return model


def masks():
    return MaskRCNN(Backbone(), CLASSES, box_roi_pool=built("fasterrcnn").roi_heads.box_roi_pool)


@pytest.mark.parametrize(
    ("make", "options", "reason"),
    [
        (lambda: nn.Linear(2, 2), {}, "supported are torchvision's"),
        (own_detections, {}, "this Own post-processes its detections in a way of its own"),
        (lambda: built("fasterrcnn"), {"nms": False}, "FasterRCNN drops proposals"),
        (
            lambda: built("ssd"),
            {"nms": False, "features": True},
            "features are those of detections",
        ),
        (lambda: built("ssd"), {"size": (64, 80)}, "takes images of 64 x 64 pixels, no others"),
        (lambda: built("fcos"), {"size": (0, 80)}, "two numbers of pixels"),
        (masks, {}, "masks and keypoints are not exported"),
    ],
)
def test_what_is_not_exported_is_said_in_one_line(make, options, reason):
    with pytest.raises((TypeError, ValueError), match=reason) as error:
        detector_graph(make(), **options)
    assert "\n" not in str(error.value)
