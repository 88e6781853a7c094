"""Exported detectors, and the models that they are made of."""

import re

import numpy as np
import onnxruntime
import torch
from torch import nn

from detcenter import (
    EnrolledClasses,
    UnknownScorer,
    attach,
    detect_with_features,
    enroll,
    set_box_vectors,
    set_l2_softmax,
    vote,
)
from tests import tiny_detectors
from tests.tiny_detectors import CLASSES, SIZE

_KEY = np.array([1.0, 7.3, 31.1, 97.7])  # which orders boxes somehow
TOLERANCE = {"boxes": 1e-3, "scores": 1e-5, "features": 1e-4, "unknown_scores": 1e-4}


class Exported:
    """Called with uint8 images [3, H, W], what it finds in each, as the model gives it."""

    def raw(self, images):
        height, width = self.inputs["images"][2:]
        batch = np.full((len(images), 3, height, width), 99, np.uint8)  # which is not looked at
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = image
        given = {"images": batch}
        if "sizes" in self.inputs:
            given["sizes"] = np.array([image.shape[1:] for image in images])
        return self.run(given)

    def __call__(self, images):
        found = self.raw(images)
        there = found["labels"] > 0
        return [
            {name: values[row][there[row]] for name, values in found.items()}
            for row in range(len(images))
        ]


class Graph(Exported):
    """The graph itself, of `detector_graph`."""

    def __init__(self, made):
        self.graph = made.graph
        self.inputs = {name: x.shape for name, x in made.inputs.items()}

    def run(self, given):
        with torch.no_grad():
            found = self.graph(*map(torch.from_numpy, given.values()))
        return dict(zip(self.graph.outputs, (x.numpy() for x in found), strict=True))


class TorchFile(Exported):
    """Called as the graph that it was made of."""

    def __init__(self, program, made):
        self.program, self.outputs = program, made.graph.outputs
        self.inputs = {name: x.shape for name, x in made.inputs.items()}

    def run(self, given):
        found = self.program(*map(torch.from_numpy, given.values()))
        return dict(zip(self.outputs, (x.numpy() for x in found), strict=True))


class OnnxFile(Exported):
    def __init__(self, path):
        self.path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.inputs = {x.name: x.shape for x in self.session.get_inputs()}
        self.outputs = {x.name: x.shape for x in self.session.get_outputs()}

    def run(self, given):
        return dict(zip(self.outputs, self.session.run(None, given), strict=True))


def by_model(model, images, features):
    """What the model finds, by label from 1."""
    floats = [image.float() / 255 for image in images]
    with torch.no_grad():
        scorer = getattr(model, "unknown_scorer", None)
        found = detect_with_features(model, floats, scorer=scorer) if features else model(floats)
    return [
        {name: x[of_image["labels"] > 0].numpy() for name, x in of_image.items()}
        for of_image in found
    ]


def assert_same(found, expected):
    """Labels and their order are equal, the rest nearly; returns how many there are.

    Of scores that are equal to float rounding either may come first.
    """
    count = 0
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours["labels"]) == len(theirs["labels"])
        tie = np.cumsum(np.diff(theirs["scores"], prepend=1) < -2e-6)
        ours, theirs = (
            {name: x[np.lexsort((of["boxes"] @ _KEY, of["labels"], tie))] for name, x in of.items()}
            for of in (ours, theirs)
        )
        assert ours["labels"].tolist() == theirs["labels"].tolist()
        for name, tolerance in TOLERANCE.items():
            assert (name in ours) == (name in theirs)
            if name in ours:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=tolerance)
        count += len(ours["labels"])
    return count


def noise(*sizes, seed=5):
    """uint8 images [3, H, W]."""
    drawn = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=drawn) for size in sizes]


WHOLE = (SIZE, SIZE)


def built(family):
    """With boxes that differ from the anchors: the IoU of two of these may be the threshold."""
    model = tiny_detectors.built(family)
    for name, weight in model.named_parameters():
        if name.endswith("weight") and re.search("bbox_reg|regression_head|bbox_pred", name):
            nn.init.normal_(weight, std=(0.2 / weight[0].numel()) ** 0.5)
    return model


def with_term(family, source="embedding"):
    model = built(family)
    attach(model, features=source)
    return model.eval()


def enrolled(model):
    """With two classes more, by boxes like those that it detects."""
    images = [image / 255 for image in noise(WHOLE, WHOLE, seed=7)]
    seen = torch.cat([found["features"] for found in detect_with_features(model, images)])
    classes = EnrolledClasses.fit(seen, 1 + torch.arange(len(seen)) % 3)
    for name, few in (("new", seen[:4]), ("newer", seen[20:29])):
        classes.add(name, few)
    return enroll(model, classes)


def with_scorer(model, by, width):
    drawn = [torch.randn(300, n) for n in (width, CLASSES)]
    model.unknown_scorer = UnknownScorer.fit(*drawn, 1 + torch.arange(300) % 3, by=by)
    return model


def few_of_each(model, candidates):
    """So few that those beyond them would be seen."""
    model.topk_candidates = candidates
    model.score_thresh = 0.05
    return model


def with_many(model):
    """So many detections that there are some of several classes."""
    model.roi_heads.detections_per_img = 300
    return model


CASES = {
    "ssd": lambda: few_of_each(built("ssd").eval(), 11),
    "ssd, voting, features": lambda: with_scorer(vote(with_term("ssd"), 0.5), "mahalanobis", 64),
    "ssdlite, L2 softmax": lambda: set_l2_softmax(built("ssdlite"), 9.0).eval(),
    "ssd, vectors of boxes, L2 softmax, enrolled, features": lambda: with_scorer(
        enrolled(set_l2_softmax(attach(set_box_vectors(built("ssd"), 16)), 9.0).eval()),
        "centers",
        64,
    ),
    "retinanet": lambda: few_of_each(built("retinanet").eval(), 90),
    "retinanet, voting, enrolled, features": lambda: with_scorer(
        enrolled(vote(with_term("retinanet"), 0.7)), "centers", 64
    ),
    "fcos, L2 softmax, own features": lambda: with_scorer(
        set_l2_softmax(with_term("fcos", "cell"), 9.0), "neighbours", 32
    ),
    "fasterrcnn, L2 softmax, enrolled, own features": lambda: with_scorer(
        enrolled(set_l2_softmax(with_many(with_term("fasterrcnn", "box")), 9.0)), "energy", 32
    ),
    "fasterrcnn, voting, enrolled, features": lambda: with_scorer(
        enrolled(vote(with_many(with_term("fasterrcnn")), 0.5)), "softmax", 64
    ),
}
