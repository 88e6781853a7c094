"""detcenter.fast: the same results, and torchvision's own class again afterwards."""

import copy
import io

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign

from detcenter import attach, detach, fast
from detcenter.models import build_model
from tests.models.conftest import CLASSES, pyramid
from tests.tiny_detectors import Flat, built


def part_of(model):
    return getattr(model, "roi_heads", model)


def inputs_of(model, images):
    """What post-processing gets, with the scores and boxes of a model that is sure of something."""
    part, seen = part_of(model), []

    def seeing(*args):
        seen.append(args)
        return []

    part.postprocess_detections = seeing
    try:
        with torch.no_grad():
            model.eval()(images)
    except (ValueError, IndexError):  # of the heads that expect something back
        pass
    finally:
        del part.postprocess_detections
    return seen[0]


def spread(value, generator):
    """Logits about -6 to 6, so that many boxes are candidates; in float64 no two are equal."""
    if isinstance(value, dict):
        return {name: spread(x, generator) for name, x in value.items()}
    if isinstance(value, list):
        return [spread(x, generator) for x in value]
    return 2 * torch.randn(value.shape, generator=generator, dtype=torch.float64)


def in_float64(value):
    if isinstance(value, dict):
        return {name: in_float64(x) for name, x in value.items()}
    if isinstance(value, list):
        return [in_float64(x) for x in value]
    return value.double() if torch.is_tensor(value) else value


def as_rows(found):
    """Of each image its boxes, scores and labels."""
    if isinstance(found, tuple):
        return list(zip(*found, strict=True))
    return [(x["boxes"], x["scores"], x["labels"]) for x in found]


@pytest.mark.parametrize("score_thresh", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("nms_thresh", [0.2, 0.6])
def test_detections_are_torchvisions(plain_model, images, score_thresh, nms_thresh):
    part = part_of(plain_model)
    part.score_thresh, part.nms_thresh = score_thresh, nms_thresh
    given = [in_float64(value) for value in inputs_of(plain_model, images)]
    boxes = "bbox_regression"
    for seed, (limit, most) in enumerate([(6, 400), (50, 30), (1000, 1000)]):
        part.detections_per_img, part.topk_candidates = limit, most
        generator = torch.Generator().manual_seed(seed)
        if isinstance(given[0], dict):
            outputs = spread({k: x for k, x in given[0].items() if k != boxes}, generator)
            args = [given[0] | outputs, *given[1:]]
        else:
            args = [spread(given[0], generator), *given[1:]]
        expected = as_rows(part.postprocess_detections(*args))
        found = as_rows(fast(plain_model) and part.postprocess_detections(*args))
        fast(plain_model, False)
        for image, (one, other) in enumerate(zip(found, expected, strict=True)):
            for a, b in zip(one, other, strict=True):
                assert a.dtype == b.dtype and torch.equal(a, b), (seed, image)
    assert any(len(scores) for _, scores, _ in expected) or score_thresh == 1.0


def with_nan(value, rows):
    """The first ``rows`` of outputs [N, A, ...], or of [R, ...], are not a number."""
    if isinstance(value, dict):
        return {name: with_nan(x, rows) for name, x in value.items()}
    if isinstance(value, list):
        return [with_nan(x, rows) for x in value]
    value = value.clone()
    (value[:, :rows] if value.dim() == 3 else value[:rows]).fill_(torch.nan)
    return value


@pytest.mark.parametrize("what", ["scores", "boxes"])
@pytest.mark.parametrize("score_thresh", [0.0, 0.4])
def test_what_is_not_a_number_is_not_detected(plain_model, images, what, score_thresh):
    """As when a training goes astray; the others are still detected, and it comes to an end."""
    part = part_of(plain_model)
    part.score_thresh = score_thresh
    given = [in_float64(value) for value in inputs_of(plain_model, images)]
    generator = torch.Generator().manual_seed(0)
    if isinstance(given[0], dict):
        names = {"boxes": ["bbox_regression"]}.get(what, given[0].keys() - {"bbox_regression"})
        changed = {k: spread(x, generator) for k, x in given[0].items() if k != "bbox_regression"}
        changed = given[0] | changed
        args = [changed | with_nan({k: changed[k] for k in names}, 5), *given[1:]]
    else:
        args = [spread(given[0], generator), *given[1:]]
        number = ["scores", "boxes"].index(what)
        args[number] = with_nan(args[number], 5)
    expected = as_rows(part.postprocess_detections(*args))
    found = as_rows(fast(plain_model) and part.postprocess_detections(*args))
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_no_proposal_is_no_detection(images):
    model = build_model("fasterrcnn_resnet50_fpn", 3, weights_backbone=None, min_size=64).eval()
    model.rpn.score_thresh = 2.0
    for found in fast(model)(images):
        assert found["boxes"].shape == (0, 4) and len(found["scores"]) == 0


@pytest.mark.parametrize("classes", [2, 91, 1203])
def test_as_many_classes_as_there_may_be(classes):
    torch.manual_seed(0)
    model = get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None)
    generator = torch.Generator().manual_seed(0)
    anchors = torch.rand(500, 4, generator=generator) * 100
    anchors[:, 2:] += anchors[:, :2]
    outputs = {
        "cls_logits": 4 * torch.randn(2, 500, classes, generator=generator, dtype=torch.float64),
        "bbox_regression": torch.randn(2, 500, 4, generator=generator, dtype=torch.float64),
    }
    args = outputs, [anchors.double()] * 2, [(320, 320), (200, 90)]
    expected = model.postprocess_detections(*args)
    found = fast(model).postprocess_detections(*args)
    for one, other in zip(found, expected, strict=True):
        assert len(one["boxes"]) > 0
        for key, value in other.items():
            assert torch.equal(one[key], value), key


def test_whole_models_detect_the_same(plain_model, images):
    model = plain_model.eval()
    expected = model(images)
    for change in (fast, attach, detach):  # attached below, and detached above
        change(model)
        for one, other in zip(model.eval()(images), expected, strict=True):
            for key, value in other.items():
                torch.testing.assert_close(one[key], value)
    assert isinstance(fast(model, False), type(plain_model))


def test_it_is_taken_back(plain_model):
    before = {module: type(module) for module in plain_model.modules()}
    coders = [type(m.box_coder) for m in before if hasattr(m, "box_coder")]
    fast(fast(plain_model))
    assert [m for m in before if type(m) is not before[m]]
    fast(plain_model, False)
    assert {module: type(module) for module in plain_model.modules()} == before
    assert [type(m.box_coder) for m in before if hasattr(m, "box_coder")] == coders


@pytest.mark.parametrize("first", [fast, attach])
def test_copies_and_pickles_are_fast_too(plain_model, images, first):
    for change in (first, fast if first is attach else attach):
        change(plain_model)
    stored = io.BytesIO()
    torch.save(plain_model, stored)
    stored.seek(0)
    for other in (copy.deepcopy(plain_model), torch.load(stored, weights_only=False)):
        assert type(part_of(other)) is type(part_of(plain_model))
        assert type(part_of(detach(other))) is type(part_of(detach(copy.deepcopy(plain_model))))
        torch.manual_seed(0)
        assert "loss_center" in plain_model.train()(images, targets_for(images))


def targets_for(images):
    boxes = torch.tensor([[8.0, 6.0, 60.0, 70.0]])
    return [{"boxes": boxes, "labels": torch.tensor([1])} for _ in images]


class Own(SSD):
    def postprocess_detections(self, head_outputs, image_anchors, image_shapes):
        return super().postprocess_detections(head_outputs, image_anchors, image_shapes)[:1]


def test_methods_of_ones_own_stay(small_model, images):
    small_model.__class__ = Own
    expected = small_model.eval()(images)
    found = fast(small_model)(images)
    assert len(found) == len(expected) == 1
    assert torch.equal(found[0]["boxes"], expected[0]["boxes"])


def test_a_method_put_into_torchvisions_class_stays(small_model, images, monkeypatch):
    monkeypatch.setattr(SSD, "postprocess_detections", lambda self, outputs, anchors, sizes: [])
    assert fast(small_model.eval())(images) == []


def test_gradients_reach_what_detects(plain_model, images):
    """As torchvision's do, of scores and boxes in eval mode."""
    gradients = []
    for model in (plain_model, fast(copy.deepcopy(plain_model))):
        leaf = [image.clone().requires_grad_() for image in images]
        found = model.eval()(leaf)
        total = sum(x["scores"].sum() + 0.01 * x["boxes"].sum() for x in found)
        gradients.append(torch.autograd.grad(total, leaf))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_masks_are_of_the_same_boxes(images):
    torch.manual_seed(0)
    pool = MultiScaleRoIAlign(["8", "16"], 7, 2)
    options = {"box_roi_pool": pool, "mask_roi_pool": MultiScaleRoIAlign(["8", "16"], 14, 2)}
    anchors = AnchorGenerator(((16, 24), (40, 60)), ((1.0,),) * 2)
    small = {"rpn_anchor_generator": anchors, "box_score_thresh": 0.0, "fixed_size": (96, 96)}
    model = MaskRCNN(pyramid(), CLASSES, **small, **options, box_detections_per_img=4).eval()
    expected = model(images)
    for one, other in zip(fast(model)(images), expected, strict=True):
        for key, value in other.items():
            torch.testing.assert_close(one[key], value)


def test_other_models_and_scripts_are_refused(small_model):
    with pytest.raises(TypeError, match="not Linear"):
        fast(nn.Linear(1, 1))
    with pytest.raises(TypeError, match="fast.model, False. first"):
        torch.jit.script(fast(small_model))


def test_a_built_retinanet(images):
    model = build_model("retinanet_resnet50_fpn", 3, weights_backbone=None, min_size=96)
    assert isinstance(model, RetinaNet)
    expected = model.eval()(images)
    for one, other in zip(fast(model)(images), expected, strict=True):
        assert torch.equal(one["boxes"], other["boxes"])


@pytest.mark.filterwarnings("ignore")
def test_a_trace_is_of_torchvisions_own_graph(small_model, images):
    """Numbers of candidates in one image are not those in another."""
    small_model.score_thresh, small_model.detections_per_img = 0.26, 500
    model = fast(small_model.eval())
    first, second = (len(Flat(model)(image)[0]) for image in images)
    assert first != second and min(first, second) > 0
    traced = torch.jit.trace(Flat(model), images[0], check_trace=False)
    for image in images:
        for one, other in zip(traced(image), Flat(model)(image), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["retinanet", "fcos", "fasterrcnn"])
def test_traces_of_other_families_take_other_images(family):
    model = fast(built(family).eval())
    part_of(model).score_thresh, part_of(model).detections_per_img = 0.1, 1000
    if family == "fasterrcnn":
        model.rpn.score_thresh = 0.5
    first = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    traced = torch.jit.trace(Flat(model), first, check_trace=False)
    for image in (first, 3 * first.flip(1) - 1):
        found = traced(image)
        assert len(found[0]) > 0
        for one, other in zip(found, Flat(fast(model, False))(image), strict=True):
            torch.testing.assert_close(one, other)


def test_who_asked_for_it_keeps_it_when_terms_are_detached(plain_model):
    for model in (
        fast(attach(copy.deepcopy(plain_model))),
        attach(fast(copy.deepcopy(plain_model))),
    ):
        assert type(part_of(detach(model))) is not type(part_of(plain_model))
    assert type(part_of(detach(attach(plain_model)))) is not type(part_of(fast(plain_model)))


def test_a_fast_model_is_called_what_it_was(plain_model):
    before = repr(plain_model)
    assert repr(fast(plain_model)) == before


def test_other_numbers_of_targets_are_refused(plain_model, images, targets):
    with pytest.raises(ValueError, match="2 images, but 3 targets"):
        fast(plain_model).train()(images, [*targets, targets[0]])
