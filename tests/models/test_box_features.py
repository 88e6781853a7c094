import copy
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from detcenter import (
    Embedding,
    attach,
    box_features,
    box_logits,
    detect_with_features,
    fast,
    vote,
)
from detcenter.models import build_model, terms_of
from detcenter.models.cells import best_anchors

from .conftest import CLASSES, SMALL, matching, own, with_statistics

WIDTH, HEIGHT = 120, 90  # of the images


@pytest.fixture
def boxes():
    """Of all sizes, some over the border of the image."""
    first = [
        [8, 6, 60, 70],
        [70, 20, 110, 60],
        [30, 40, 50, 64],
        [100, 70, 119, 89],
        [0, 0, 120, 90],
    ]
    second = [[1, 2, 9, 12], [40, 1, 60, 89], [-5, 30, 40, 45]]
    return [torch.tensor(first).float(), torch.tensor(second).float()]


@pytest.fixture
def unequal():
    """Six levels of 672, 480, 512, 256, 256 and 128 channels, with batch norm that learns."""
    torch.manual_seed(0)
    return with_statistics(build_model("ssdlite320_mobilenet_v3_large", CLASSES)).train()


def passed(model, images, boxes):
    """Maps, batch and boxes in its pixels, by the parts of the model."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        batch, _ = model.transform(images)
        maps = model.backbone(batch.tensors)
    size = model.transform.fixed_size
    scale = torch.tensor([size[0] / WIDTH, size[1] / HEIGHT] * 2)
    return model, batch, maps, [b * scale for b in boxes]


def vectors_by_loop(model, images, boxes):
    model, batch, maps, boxes = passed(model, images, boxes)
    if isinstance(model, FasterRCNN):
        return vectors_of_proposals(model, batch, maps, boxes)
    maps = list(maps.values())
    anchors = model.anchor_generator(batch, maps)
    find = responsible_point if isinstance(model, FCOS) else best_anchor
    return [
        [at(model, maps, i, find(anchors[i], box))[1] for box in boxes[i]]
        for i in range(len(images))
    ]


def vectors_of_proposals(model, batch, maps, boxes):
    read = []
    model.roi_heads.box_predictor.register_forward_pre_hook(
        lambda _, inputs: read.append(inputs[0])
    )
    with torch.no_grad():
        model.roi_heads(maps, boxes, batch.image_sizes)
    return [list(x) for x in read[0].split([len(b) for b in boxes])]


def logits_by_loop(model, images, boxes):
    """Of R-CNNs the boxes are proposals; of the others the anchor of each box is looked for."""
    model, batch, maps, boxes = passed(model, images, boxes)
    if isinstance(model, FasterRCNN):
        made = []
        model.roi_heads.box_predictor.register_forward_hook(
            lambda _, __, outputs: made.append(outputs[0])
        )
        with torch.no_grad():
            model.roi_heads(maps, boxes, batch.image_sizes)
        return [list(x) for x in made[0].split([len(b) for b in boxes])]
    with torch.no_grad():
        logits = model.head(list(maps.values()))["cls_logits"]
    anchors = model.anchor_generator(batch, list(maps.values()))
    find = responsible_point if isinstance(model, FCOS) else best_anchor
    return [[logits[i, find(anchors[i], box)] for box in boxes[i]] for i in range(len(images))]


def best_anchor(anchors, box):
    ious = [box_iou(anchor[None], box[None]).item() for anchor in anchors]
    return max(range(len(ious)), key=ious.__getitem__)


def responsible_point(points, box):
    """The nearest to the center of those whose level is for boxes of this reach."""
    best, nearest = None, float("inf")
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    reach = max(box[2] - box[0], box[3] - box[1]) / 2
    for index, point in enumerate(points):
        stride = point[2] - point[0]
        above = reach < 8 * stride or stride == 16
        if above and (reach >= 4 * stride or stride == 8):
            x, y = (point[0] + point[2]) / 2, (point[1] + point[3]) / 2
            distance = (x - cx) ** 2 + (y - cy) ** 2
            if distance < nearest:
                best, nearest = index, distance
    return best


def at(model, maps, image, anchor):
    """Level and vector of an anchor."""
    per_cell = model.anchor_generator.num_anchors_per_location()
    for level, (x, n) in enumerate(zip(maps, per_cell, strict=True)):
        count = x.shape[2] * x.shape[3] * n
        if anchor < count:
            row, column = divmod(anchor // n, x.shape[3])
            return level, x[image, :, row, column]
        anchor -= count
    raise AssertionError("no such anchor")


def check(got, expected):
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, torch.stack(other), rtol=1e-4, atol=1e-5)


def test_a_box_has_the_vector_that_the_detector_would_have_for_it(plain_model, images, boxes):
    if isinstance(plain_model, FCOS):
        plain_model.transform.fixed_size = (192, 192)  # its coarse level is for large boxes
    check(box_features(plain_model, images, boxes), vectors_by_loop(plain_model, images, boxes))


@pytest.mark.parametrize("fastened", [False, True])
def test_a_box_has_the_logits_that_the_detector_would_have_for_it(
    plain_model, images, boxes, fastened
):
    if isinstance(plain_model, FCOS):
        plain_model.transform.fixed_size = (192, 192)
    expected = logits_by_loop(plain_model, images, boxes)
    found = box_logits(fast(plain_model) if fastened else plain_model, images, boxes)
    if not isinstance(plain_model, FasterRCNN | SSD):
        # Each class against none of them, as its own sigmoid has it: the odds are exp(logit).
        for rows in expected:
            for row in rows:
                row[0] = 0
        odds = found[0].softmax(1)[:, 1:] / found[0].softmax(1)[:, :1]
        own = torch.stack(expected[0])[:, 1:].sigmoid()
        torch.testing.assert_close(odds, own / (1 - own), rtol=1e-4, atol=1e-5)
    check(found, expected)


def test_logits_are_without_votes(small_model, images, boxes):
    attach(small_model, features=Embedding(5))
    before = box_logits(small_model, images, boxes)
    vote(small_model, 0.9)
    assert all(map(torch.equal, before, box_logits(small_model, images, boxes)))


def test_levels_of_different_widths_have_a_block_each(unequal, images, boxes):
    widths = [672, 480, 512, 256, 256, 128]
    model, batch, maps, scaled = passed(unequal, images, boxes)
    maps = list(maps.values())
    anchors = model.anchor_generator(batch, maps)
    features = box_features(unequal, images, boxes)
    levels = set()
    for i in range(2):
        assert features[i].shape == (len(boxes[i]), sum(widths))
        for box, feature in zip(scaled[i], features[i], strict=True):
            level, vector = at(model, maps, i, best_anchor(anchors[i], box))
            expected = torch.zeros(sum(widths))
            start = sum(widths[:level])
            expected[start : start + widths[level]] = vector
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)
            levels.add(level)
    assert len(levels) > 2


# Half the longer side, in pixels of an image of 192: the fine level is for points from which a box
# reaches less than 64 pixels, the coarse one for the others.
@pytest.mark.parametrize("reach", [(10, 60), (60, 64), (64, 95)])
def test_the_point_of_a_box_is_one_that_fcos_matches_with_it(built, images, targets, reach):
    model = copy.deepcopy(built["fcos"]).train()
    model.transform.fixed_size = (192, 192)
    draw = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    long = 2 * (reach[0] + (reach[1] - reach[0]) * draw[:, :1])
    sides = torch.cat([long, long * (0.3 + 0.7 * draw[:, 1:2])], 1)
    sides[::2] = sides[::2].flip(1)
    corner = draw[:, 2:] * (192 - sides)
    boxes = torch.cat([corner, corner + sides], 1)
    scale = torch.tensor([WIDTH / 192, HEIGHT / 192] * 2)
    features = box_features(model, images[:1], [boxes * scale])[0]
    maps, _, anchors, _ = matching(model, images[:1], targets[:1])
    vectors = torch.cat([x[0].flatten(1).T for x in maps])
    points = [x[0, 0].numel() for x in maps]
    found, wrong = 0, []
    for box, feature in zip(boxes, features, strict=True):
        with patch.object(model.head, "compute_loss") as losses:
            model.compute_loss([{"boxes": box[None]}], {}, anchors[:1], points)
        matched = vectors[losses.call_args.args[3][0] >= 0]
        if len(matched):
            found += 1
            if (matched - feature).abs().amax(1).min() > 1e-5:
                wrong.append(box.tolist())
    assert found > 30 and not wrong


def test_a_batch_is_its_images_one_by_one(plain_model, images, boxes):
    both = box_features(plain_model, images, boxes)
    alone = [box_features(plain_model, [x], [b])[0] for x, b in zip(images, boxes, strict=True)]
    for one, other in zip(both, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*(box_features(plain_model, [x], boxes[:1])[0] for x in images))


def test_an_embedding_is_the_projection_of_that_vector(plain_model, images, boxes):
    vectors = box_features(plain_model, images, boxes)
    attach(plain_model, weight=1.0, name="plain", features=own(plain_model))
    attach(plain_model, weight=1.0, name="embedded", features=Embedding(5))
    for name in (None, "plain"):
        assert all(map(torch.equal, box_features(plain_model, images, boxes, name), vectors))
    features = box_features(plain_model, images, boxes, "embedded")
    projections = terms_of(plain_model).embedding.projections
    with torch.no_grad():
        by_level = torch.stack([projection(torch.cat(vectors)) for projection in projections], 1)
    distance = (by_level - torch.cat(features)[:, None]).abs().amax(2)
    assert features[0].shape == (5, 5) and (distance.amin(1) < 1e-4).all()


def test_the_first_term_decides_what_a_feature_is(small_model, images, boxes):
    source = {"features": Embedding(5)}
    attach(small_model, weight=1.0, name="embedded", **source)
    attach(small_model, weight=1.0, name="plain", features="cell")
    assert box_features(small_model, images, boxes)[0].shape == (5, 5)
    assert box_features(small_model, images, boxes, "plain")[0].shape == (5, 128)


def test_levels_of_different_widths_embed_into_one_space(unequal, images, boxes):
    attach(unequal, weight=1.0, features=Embedding(5))
    features = box_features(unequal, images, boxes)
    model, batch, maps, scaled = passed(unequal, images, boxes)
    maps = list(maps.values())
    anchors = model.anchor_generator(batch, maps)
    projections = terms_of(model).embedding.projections
    for i in range(2):
        for box, feature in zip(scaled[i], features[i], strict=True):
            level, vector = at(model, maps, i, best_anchor(anchors[i], box))
            with torch.no_grad():
                torch.testing.assert_close(
                    feature, projections[level](vector), rtol=1e-4, atol=1e-5
                )


def test_no_boxes_have_no_features(plain_model, images, boxes):
    width = box_features(plain_model, images, boxes)[0].shape[1]
    some = box_features(plain_model, images, [torch.zeros(0, 4), boxes[1]])
    assert some[0].shape == (0, width) and some[1].shape == (3, width)
    none = box_features(plain_model, images, [torch.zeros(0, 4)] * 2)
    assert [x.shape for x in none] == [(0, width)] * 2
    attach(plain_model, weight=1.0, features=Embedding(5))
    assert box_features(plain_model, images[:1], [torch.zeros(0, 4)])[0].shape == (0, 5)


@pytest.mark.parametrize("call", [box_features, detect_with_features])
def test_the_model_is_left_as_it_was(unequal, images, boxes, call):
    model = attach(unequal, weight=1.0, features="cell")
    model.eval()
    for index, module in enumerate(model.modules()):  # a mix
        module.training = index % 3 == 0
    before = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    found = call(model, images, boxes) if call is box_features else call(model, images)
    tensors = found if call is box_features else [x["features"] for x in found]
    assert not any(x.requires_grad for x in tensors)
    assert [module.training for module in model.modules()] == before
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


@pytest.mark.parametrize("call", [box_features, detect_with_features])
def test_the_modes_are_put_back_when_a_pass_fails(small_model, images, boxes, call):
    small_model.head.eval()
    before = [module.training for module in small_model.modules()]
    wrong = [images[0][:2], images[1]]  # two channels
    with pytest.raises(RuntimeError):
        call(small_model, wrong, boxes) if call is box_features else call(small_model, wrong)
    assert [module.training for module in small_model.modules()] == before
    assert not small_model.transform._forward_hooks and not small_model.backbone._forward_hooks


@pytest.mark.parametrize("source", [None, "embedding"])
def test_detections_are_torchvisions_with_the_features_of_their_boxes(plain_model, source, images):
    with torch.no_grad():
        expected = copy.deepcopy(plain_model).eval()(images)
    attach(plain_model, weight=1.0, features=source or own(plain_model))
    passes = []
    hook = plain_model.backbone.register_forward_hook(lambda *args: passes.append(args))
    found = detect_with_features(plain_model, images)
    hook.remove()
    assert len(passes) == 1
    assert sum(len(x["boxes"]) for x in expected) > 3
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() | {"features"}
        assert all(torch.equal(one[key], other[key]) for key in other)
    features = box_features(plain_model, images, [x["boxes"] for x in expected])
    for one, other in zip(found, features, strict=True):
        torch.testing.assert_close(one["features"], other, rtol=1e-4, atol=1e-5)


def test_detections_are_scored_in_the_same_pass(plain_model, images):
    attach(plain_model, weight=1.0)
    with torch.no_grad():
        boxes = [x["boxes"] for x in copy.deepcopy(plain_model).eval()(images)]
    passes = []
    hook = plain_model.backbone.register_forward_hook(lambda *args: passes.append(args))
    found = detect_with_features(plain_model, images, scorer=lambda f, z: f.sum(1) + z.amax(1))
    hook.remove()
    assert len(passes) == 1 and sum(map(len, boxes)) > 3
    logits = box_logits(plain_model, images, boxes)
    for one, other in zip(found, logits, strict=True):
        torch.testing.assert_close(one["logits"], other, rtol=1e-4, atol=1e-4)
        expected = one["features"].sum(1) + one["logits"].amax(1)
        assert torch.equal(one["unknown_scores"], expected)


def test_detections_take_the_name_of_a_term(small_model, images):
    attach(small_model, weight=1.0, features="cell")
    attach(small_model, weight=1.0, name="x", features=Embedding(5))
    assert [x["features"].shape[1] for x in detect_with_features(small_model, images, "x")] == [
        5,
        5,
    ]
    assert detect_with_features(small_model, images)[0]["features"].shape[1] == 128


def test_without_detections_there_are_no_features(plain_model, images):
    thresholds = plain_model.roi_heads if isinstance(plain_model, FasterRCNN) else plain_model
    thresholds.score_thresh = 2.0
    for found in detect_with_features(plain_model, images):
        assert found["boxes"].shape == (0, 4)
        assert len(found["features"]) == 0 and found["features"].shape[1] > 0


def test_images_of_different_sizes_keep_their_boxes(built):
    images = [torch.rand(3, 60, 90), torch.rand(3, 120, 50)]
    boxes = [torch.tensor([[9.0, 6, 45, 30]]), torch.tensor([[5.0, 12, 25, 60]])]  # alike, scaled
    for model in built.values():
        model = copy.deepcopy(model)
        got = torch.cat(box_features(model, images, boxes))
        for image, box, feature in zip(images, boxes, got, strict=True):
            torch.testing.assert_close(
                box_features(model, [image], [box])[0][0], feature, rtol=1e-4, atol=1e-5
            )


def test_batch_norm_uses_its_statistics_not_the_batchs(images, boxes):
    torch.manual_seed(0)
    options = SMALL | {"frozen_batch_norm": False, "anchor_scales": [[0.2], [0.4]]}
    model = with_statistics(build_model("ssd", CLASSES, **options)).train()
    both = box_features(model, images, boxes)
    torch.testing.assert_close(
        box_features(model, images[:1], boxes[:1])[0], both[0], rtol=1e-4, atol=1e-5
    )


def test_wrong_use_is_a_clear_error(small_model, images, boxes):
    with pytest.raises(ValueError, match="one tensor of boxes an image: 2 images, 1 boxes"):
        box_features(small_model, images, boxes[:1])
    with pytest.raises(ValueError, match="0 images, 0 boxes"):
        box_features(small_model, [], [])
    with pytest.raises(ValueError, match=r"boxes are \[N, 4\] for each image, not \[4\]"):
        box_features(small_model, images, [boxes[0], torch.zeros(4)])
    with pytest.raises(ValueError, match=r"not \[3, 5\]"):
        box_features(small_model, images, [boxes[0], torch.zeros(3, 5)])
    with pytest.raises(ValueError, match="no term 'center' is attached; there are: none"):
        box_features(small_model, images, boxes, "center")
    attach(small_model, weight=1.0, features="embedding")
    for name in ("other", "embedding"):
        with pytest.raises(ValueError, match=f"no term '{name}' is attached; there are: center"):
            box_features(small_model, images, boxes, name)
        with pytest.raises(ValueError, match=f"no term '{name}'"):
            detect_with_features(small_model, images, name)
    for call in (
        lambda x: box_features(x, images, boxes),
        lambda x: detect_with_features(x, images),
    ):
        with pytest.raises(TypeError, match="supported are.*not Linear"):
            call(nn.Linear(1, 1))


def test_a_box_that_overlaps_no_anchor_gets_the_nearest(built):
    anchors = torch.tensor([[0.0, 0, 8, 8], [16, 16, 24, 24], [40, 40, 48, 48]])
    boxes = torch.tensor([[34.0, 34, 37, 37], [27, 20, 27, 20], [1, 1, 4, 4]])
    (found,) = best_anchors([anchors], [boxes])
    assert found.tolist() == [2, 1, 0]


@pytest.mark.parametrize("family", ["ssd", "retinanet", "fcos"])
def test_boxes_keep_their_pixels_in_half_precision(built, family):
    model = copy.deepcopy(built[family]).eval()
    boxes = [torch.tensor([[301.0, 7.0, 333.0, 39.0]])]
    image = torch.rand(3, 400, 400, generator=torch.Generator().manual_seed(0))
    scaled = []
    hook = model.transform.register_forward_hook(
        lambda _, __, output: scaled.append(output[1][0]["boxes"])
    )
    box_features(model.bfloat16(), [image.bfloat16()], boxes)
    hook.remove()
    torch.testing.assert_close(scaled[0], boxes[0] * 96 / 400)
