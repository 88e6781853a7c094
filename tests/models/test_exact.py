import copy

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDHead

from detcenter.models import build_model
from detcenter.models.exact import with_exact_boxes, without_exact_boxes

from .conftest import CLASSES, FAMILIES, SMALL, pyramid, with_statistics

BFLOAT16 = {"device_type": "cpu", "dtype": torch.bfloat16}


def plain_ssd():
    """torchvision's own classes throughout, unlike what build_model gives."""
    boxes = DefaultBoxGenerator([[2], [2]], scales=[0.15, 0.35, 0.7])
    head = SSDHead([32, 32], boxes.num_anchors_per_location(), CLASSES)
    options = {"score_thresh": 0.0, "detections_per_img": 6}
    return SSD(pyramid(), boxes, (300, 300), CLASSES, head=head, **options)


@pytest.fixture(scope="module")
def plain():
    """A model a family in which every generator and coder is torchvision's."""
    torch.manual_seed(0)
    models = {"ssd": plain_ssd()}
    for family in ("retinanet", "fcos"):
        models[family] = without_exact_boxes(FAMILIES[family]())
    # Sides of 8 and 16 are exact in bfloat16 at the strides of 8 and 16.
    models["fcos"].anchor_generator = AnchorGenerator(((10,), (22,)), ((1.0,),) * 2)
    models["fasterrcnn"] = without_exact_boxes(FAMILIES["fasterrcnn"]())
    for model in models.values():
        model.transform.fixed_size = (300, 300)  # of whose numbers bfloat16 knows every second
    return {family: with_statistics(model).eval() for family, model in models.items()}


def generator(model):
    return (model.rpn if hasattr(model, "rpn") else model).anchor_generator


def run(model, images, **autocast):
    """Anchors, decoded boxes and detections of one pass."""
    anchors, decoded, undo = [], [], []
    hook = generator(model).register_forward_hook(lambda *args: anchors.extend(args[2]))
    coders = {id(m.box_coder): m.box_coder for m in model.modules() if hasattr(m, "box_coder")}
    for coder in coders.values():
        for name in ("decode", "decode_single"):
            if hasattr(coder, name):
                undo.append((coder, name))
                setattr(coder, name, keeping(getattr(coder, name), decoded))
    with torch.no_grad(), torch.autocast(**{**BFLOAT16, "enabled": False, **autocast}):
        found = model(images)
    hook.remove()
    for coder, name in undo:
        delattr(coder, name)
    return anchors, decoded, found


def keeping(call, kept):
    def run(*args):
        kept.append(call(*args))
        return kept[-1]

    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_under_autocast_torchvisions_coordinates_are_rounded_and_these_are_not(
    plain, family, images
):
    model = plain[family]
    expected, _, _ = run(model, images)
    rounded, _, _ = run(model, images, enabled=True)
    exact, decoded, found = run(with_exact_boxes(copy.deepcopy(model)), images, enabled=True)
    assert not torch.equal(rounded[0].float(), expected[0])  # else there is nothing to be seen
    for one, other in zip(exact, expected, strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)
    assert decoded and {x.dtype for x in decoded} == {torch.float32}
    assert {x["boxes"].dtype for x in found} == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_without_autocast_outputs_are_torchvisions_to_the_bit(plain, family, images):
    model = plain[family]
    exact = with_exact_boxes(copy.deepcopy(model))
    (anchors, _, expected), (exact_anchors, _, got) = (run(x, images) for x in (model, exact))
    assert all(map(torch.equal, anchors, exact_anchors))
    assert sum(len(x["boxes"]) for x in expected) > 3
    for one, other in zip(got, expected, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in other)


@pytest.mark.parametrize("family", FAMILIES)
def test_built_models_have_exact_boxes(built, family, images):
    model = copy.deepcopy(built[family]).eval()
    model.transform.fixed_size = (300, 300)
    expected, _, _ = run(model, images)
    got, decoded, found = run(model, images, enabled=True)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)
    assert decoded and {x.dtype for x in decoded} == {torch.float32}
    assert {x["boxes"].dtype for x in found} == {torch.float32}


def test_under_autocast_proposals_of_the_region_network_are_float32(built, images, targets):
    model = copy.deepcopy(built["fasterrcnn"])
    seen = []
    model.rpn.register_forward_hook(lambda *args: seen.append(args[2][0]))
    for mode in (True, False):
        with torch.autocast(**BFLOAT16):
            model.train(mode)(images, targets)
    assert {x.dtype for proposals in seen for x in proposals} == {torch.float32}
    sides = torch.cat([x for proposals in seen for x in proposals])
    assert not torch.equal(sides.bfloat16().float(), sides)


def test_decoding_is_done_in_float32():
    boxes = torch.tensor([[101.3, 57.7, 287.1, 203.9]])
    codes = torch.tensor([[0.11, -0.2, 0.05, 0.3]]).bfloat16()
    # by hand, from the rounded codes
    dx, dy, dw, dh = codes[0].tolist()
    width, height = 287.1 - 101.3, 203.9 - 57.7
    x, y = 101.3 + width / 2 + dx / 10 * width, 57.7 + height / 2 + dy / 10 * height
    w, h = (side * torch.tensor(d / 5).exp().item() for side, d in ((width, dw), (height, dh)))
    expected = torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])
    holder = torch.nn.Module()
    holder.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    coder = with_exact_boxes(holder).box_coder
    with torch.autocast(**BFLOAT16):
        single, several = coder.decode_single(codes, boxes), coder.decode(codes, [boxes])[:, 0]
    torch.testing.assert_close(single, expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(several, expected, rtol=1e-5, atol=1e-3)
    holder.box_coder = BoxLinearCoder(normalize_by_size=False)
    with torch.autocast(**BFLOAT16):
        linear = with_exact_boxes(holder).box_coder.decode(codes, boxes)
    x, y = 101.3 + width / 2, 57.7 + height / 2
    expected = torch.tensor([[x - dx, y - dy, x + dw, y + dh]])
    torch.testing.assert_close(linear, expected, rtol=1e-5, atol=1e-3)


def test_a_generator_of_ones_own_is_left_alone():
    class Own(AnchorGenerator):
        pass

    holder = torch.nn.Module()
    holder.anchor_generator = Own()
    assert type(with_exact_boxes(holder).anchor_generator) is Own


def test_every_name_builds_a_model_of_exact_boxes():
    models = [
        build_model("ssdlite320_mobilenet_v3_large", CLASSES),
        build_model("fasterrcnn_mobilenet_v3_large_320_fpn", CLASSES),
        build_model("ssd", CLASSES, **SMALL, anchor_scales=[[0.2], [0.4]]),
        build_model("retinanet", CLASSES, **SMALL, anchor_scales=[[0.2], [0.4]]),
        build_model("fcos", CLASSES, **SMALL),
    ]
    for model in models:
        parts = [
            getattr(module, name)
            for module in model.modules()
            for name in ("anchor_generator", "box_coder")
            if hasattr(module, name)
        ]
        plain = {DefaultBoxGenerator, AnchorGenerator, BoxCoder, BoxLinearCoder}
        assert len(parts) > 1 and not {type(part) for part in parts} & plain
