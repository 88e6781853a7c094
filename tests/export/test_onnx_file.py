"""Files of `export_onnx` in onnxruntime, against the models that they were made of."""

import copy
import json

import numpy as np
import onnx
import pytest
import torch

from detcenter import export_onnx, vote
from detcenter.export import OnnxDetector
from detcenter.runs.passes import input_size
from tests.export.exported import CASES, WHOLE, OnnxFile, assert_same, built, by_model, noise
from tests.tiny_detectors import CLASSES, SIZE

pytestmark = pytest.mark.slow
IN_ONNX = (
    "ssd, voting, features",
    "retinanet, voting, enrolled, features",
    "fcos, L2 softmax, own features",
    "fasterrcnn, voting, enrolled, features",
)


@pytest.fixture(scope="module", params=IN_ONNX)
def exported(request, tmp_path_factory):
    torch.manual_seed(0)
    model, path = CASES[request.param](), tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, path, features=True)
    return model, OnnxFile(path)


def test_it_finds_what_the_model_finds(exported):
    model, file = exported
    images = noise(WHOLE, WHOLE, WHOLE)
    expected = by_model(model, images, True)
    assert assert_same(file(images), expected) > 60
    assert len({label for of_image in expected for label in of_image["labels"]}) > 1


@pytest.mark.parametrize("count", [1, 5])
def test_of_any_number_of_images(exported, count):
    """As https://github.com/pytorch/vision/issues/8937 would have it."""
    model, file = exported
    images = noise(*[WHOLE] * count, seed=6)
    assert assert_same(file(images), by_model(model, images, True)) > 20 * count


def test_of_images_of_several_sizes(exported):
    model, file = exported
    if model.transform.fixed_size is not None:
        assert "sizes" not in file.inputs
        return
    images = noise(WHOLE, (40, SIZE), (SIZE, 51), (33, SIZE))
    assert assert_same(file(images), by_model(model, images, True)) > 80


def test_what_votes_and_scores_is_heard(exported):
    """Else the tests above would say nothing of them."""
    model, file = exported
    (found,) = file(noise(WHOLE))
    if getattr(model, "box_vote", None):
        (plain,) = by_model(vote(copy.deepcopy(model), None), noise(WHOLE), False)
        # An enrolled class has what the detector holds for any object, which a vote leaves alone.
        first = [of["scores"][of["labels"] < CLASSES][:10] for of in (plain, found)]
        assert np.abs(first[0] - first[1]).max() > 1e-3
    assert np.ptp(found["unknown_scores"]) > 1e-3
    assert found["features"].std(0).max() > 1e-3


def test_it_stands_in_for_the_model(exported):
    model, file = exported
    detector = OnnxDetector(file.path)
    fixed = model.transform.fixed_size is not None
    images = noise(WHOLE, *[] if fixed else [(40, SIZE)])
    floats = [image.float() / 255 for image in images]
    for found, expected in zip(detector(floats), file(images), strict=True):
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name].numpy(), expected[name]) for name in found)
    assert detector.unknown_threshold == model.unknown_scorer.threshold
    size = input_size(detector)
    assert size == (WHOLE if fixed else (SIZE, SIZE, WHOLE))


def test_the_file_says_what_it_takes_and_gives(exported):
    model, file = exported
    assert file.inputs["images"] == ["batch", 3, SIZE, SIZE]
    assert [*file.outputs] == ["boxes", "scores", "labels", "features", "unknown_scores"]
    contract = json.loads(file.metadata["detcenter"])
    fixed = model.transform.fixed_size is not None
    assert contract == {
        "size": [SIZE, SIZE],
        "sides": None if fixed else [SIZE, SIZE],
        "classes": None,
        "enrolled": 2 if hasattr(model, "box_classes") else 0,
        "unknown_threshold": float(model.unknown_scorer.threshold),
    }
    raw = file.raw(noise(WHOLE))
    missing = raw["labels"] == 0
    assert (np.diff(missing.astype(int)) >= 0).all() and (np.diff(raw["scores"]) <= 0).all()
    assert not any(values[missing].any() for values in raw.values())


def test_it_leaves_the_model_as_it_is_and_nothing_else_behind(tmp_path):
    model = built("ssd").train().half()
    before, kind = {k: x.clone() for k, x in model.state_dict().items()}, type(model)
    export_onnx(model, tmp_path / "model.onnx", nms=False)
    assert type(model) is kind and model.training
    assert all(torch.equal(x, before[k]) for k, x in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)
