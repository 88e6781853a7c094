import copy
import logging
import math
import pickle
from urllib.error import URLError

import pytest
import torch
from torchvision.models import (
    MobileNet_V2_Weights,
    WeightsEnum,
    get_model,
    mobilenet_v2,
    mobilenet_v3_large,
    vgg16,
)
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.ops.misc import FrozenBatchNorm2d

from detcenter import RankHardLoss, attach, set_l2_softmax
from detcenter.batched.matching import responsible
from detcenter.models import (
    MODEL_NAMES,
    OVER_BACKBONES,
    WeightsError,
    build_model,
    initialize,
    read_weights,
    terms_of,
)
from detcenter.models.custom import ScaledBoxGenerator, build_over_backbone
from detcenter.models.pyramid import PyramidBackbone
from detcenter.models.weights import load_matching, place_in_cache

from .conftest import FEW_BOXES, Recorder, narrow_vgg

ARCHITECTURE = {
    "backbone": "mobilenet_v2",
    "image_size": 96,
    "strides": [8],
    "anchor_scales": [[0.2]],
}
SMALL = {"name": "ssd", "backbone": "mobilenet_v2", "image_size": 96}


@pytest.fixture
def small_vgg():
    with narrow_vgg():
        yield


def save(model, path):
    torch.save(model.state_dict(), path)
    return str(path)


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.usefixtures("small_vgg")
@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("ssd300_vgg16", ssd300_vgg16),
        ("ssdlite320_mobilenet_v3_large", ssdlite320_mobilenet_v3_large),
    ],
)
def test_torchvisions_models_are_torchvisions(name, builder):
    torch.manual_seed(3)
    ours = build_model(name, 7)
    torch.manual_seed(3)
    theirs = builder(weights=None, weights_backbone=None, num_classes=7)
    assert same_state(ours.state_dict(), theirs.state_dict())
    image = [torch.rand(3, 64, 80)]
    with torch.inference_mode():
        got, expected = ours.eval()(image)[0], theirs.eval()(image)[0]
    assert same_state(got, expected)


def test_local_backbone_weights_give_the_architecture_that_goes_with_them(tmp_path):
    # torchvision halves the tail of SSDlite when it is built without backbone weights
    file = save(mobilenet_v3_large(weights=None), tmp_path / "backbone.pth")
    model = build_model("ssdlite320_mobilenet_v3_large", 3, weights_backbone=file)
    halved = build_model("ssdlite320_mobilenet_v3_large", 3)
    name = "backbone.features.1.3.0.weight"  # the last convolution of the classifier's features
    assert model.state_dict()[name].shape[0] == 2 * halved.state_dict()[name].shape[0]
    first = read_weights(file)["features.0.0.weight"]
    assert torch.equal(model.state_dict()["backbone.features.0.0.0.weight"], first)


@pytest.mark.usefixtures("small_vgg")
def test_the_same_arguments_without_loading_give_the_same_keys_and_shapes(tmp_path):
    vgg = save(vgg16(weights=None), tmp_path / "vgg.pth")
    for name, extra in (
        ("ssd300_vgg16", {"weights_backbone": vgg}),
        ("ssd300_vgg16", {"weights_backbone": "DEFAULT"}),
        ("ssd300_vgg16", {"weights": "COCO_V1"}),
        ("ssdlite320_mobilenet_v3_large", {"weights_backbone": "DEFAULT"}),
        ("ssdlite320_mobilenet_v3_large", {"weights": "DEFAULT"}),
    ):
        model = build_model(name, 5, load=False, **extra)
        assert model.head.classification_head.num_columns == 5
    loaded = build_model("ssd300_vgg16", 5, weights_backbone=vgg, trainable_backbone_layers=2)
    rebuilt = build_model(
        "ssd300_vgg16", 5, weights_backbone=vgg, trainable_backbone_layers=2, load=False
    )
    shapes, trained = (
        [{n: getattr(p, what) for n, p in m.named_parameters()} for m in (loaded, rebuilt)]
        for what in ("shape", "requires_grad")
    )
    assert shapes[0] == shapes[1] and trained[0] == trained[1]
    assert not all(trained[0].values())


def test_detector_weights_load_for_another_number_of_classes(tmp_path, caplog):
    for name in ("ssdlite320_mobilenet_v3_large", "ssd"):
        options = SMALL if name == "ssd" else {"name": name}
        trained = build_model(num_classes=4, **options)
        file = save(trained, tmp_path / "detector.pth")
        with caplog.at_level(logging.WARNING):
            model = build_model(num_classes=6, weights=file, **options)
        new = {n for n, x in model.state_dict().items() if x.shape != trained.state_dict()[n].shape}
        assert new and all("classification_head" in n for n in new)
        for n, x in model.state_dict().items():
            assert n in new or torch.equal(x, trained.state_dict()[n])
        assert f"{len(new)} start new" in caplog.text


def test_a_checkpoint_with_a_model_entry_is_taken_too(tmp_path):
    model = build_model(num_classes=3, **SMALL)
    torch.save({"model": model.state_dict(), "epoch": 7}, tmp_path / "checkpoint.pth")
    assert same_state(read_weights(tmp_path / "checkpoint.pth"), model.state_dict())


@pytest.mark.usefixtures("small_vgg")
def test_where_weights_cannot_be_downloaded_the_best_way_out_comes_first(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "the cache")
    for arguments, file in (
        ({"name": "ssd300_vgg16", "weights": "DEFAULT"}, "ssd300_vgg16_coco-b556d3b4"),
        ({"name": "ssd300_vgg16", "weights_backbone": "DEFAULT"}, "vgg16_features-amdegroot"),
        ({**SMALL, "weights_backbone": "DEFAULT"}, "mobilenet_v2-7ebf99e0"),
        ({**SMALL, "weights_backbone": "IMAGENET1K_V1"}, "mobilenet_v2-b0353104"),
    ):
        key = next(key for key in arguments if key.startswith("weights"))
        ways = f"as {key} .*--{key.replace('_', '-')} FILE.*{file}.* into the cache/checkpoints "
        with pytest.raises(WeightsError, match=f"{ways}.*{key}: null.* ends far lower$") as caught:
            build_model(num_classes=3, **arguments)
        assert "\n" not in str(caught.value)


def test_weights_laid_into_torchs_cache_are_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    place = place_in_cache(MobileNet_V2_Weights.IMAGENET1K_V1)
    place.parent.mkdir()
    save(mobilenet_v2(weights=None), place)
    model = build_model(num_classes=3, weights_backbone="IMAGENET1K_V1", **SMALL)
    first = read_weights(place)["features.0.0.weight"]
    assert any(torch.equal(x, first) for x in model.parameters())


@pytest.mark.usefixtures("small_vgg")
def test_weights_that_do_not_fit_are_one_clear_line(tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    other = save(torch.nn.Linear(2, 2), tmp_path / "other.pth")
    for arguments, message in (
        ({"weights": str(tmp_path / "none.pth"), **SMALL}, "none.pth: no such"),
        ({"weights": str(tmp_path / "broken.pth"), **SMALL}, "broken.pth: not a weights file"),
        ({"weights": other, **SMALL}, "other.pth: weights of another model"),
        ({"weights_backbone": other, **SMALL}, "other.pth: weights of another model"),
        ({"weights_backbone": other, "name": "ssd300_vgg16"}, "other.pth: not weights of the"),
        ({"weights_backbone": "IMAGENET", **SMALL}, "torchvision has IMAGENET1K_V1"),
        ({"weights": "DEFAULT", **SMALL}, "a file or null"),
    ):
        with pytest.raises(WeightsError, match=message) as caught:
            build_model(num_classes=3, **arguments)
        assert "\n" not in str(caught.value)


def test_nothing_in_a_weights_file_is_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"model": Bomb()}))
    with pytest.raises(WeightsError):
        read_weights(tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()


def test_load_matching_leaves_other_shapes_alone():
    model = torch.nn.Linear(2, 3)
    before = model.weight.clone()
    load_matching(model, {"weight": torch.ones(9, 9), "bias": torch.ones(3)}, "a file")
    assert torch.equal(model.weight, before) and (model.bias == 1).all()


@pytest.mark.parametrize("backbone", ["resnet18", "shufflenet_v2_x0_5", "efficientnet_b0", "vgg11"])
def test_an_ssd_over_any_backbone(backbone):
    model = build_model(
        "ssd",
        3,
        backbone=backbone,
        image_size=64,
        strides=[8, 32],
        anchor_scales=[[0.2], [0.5, 0.9]],
    )
    maps = model.backbone(torch.zeros(1, 3, 64, 64))
    assert [tuple(x.shape) for x in maps.values()] == [(1, 128, 8, 8), (1, 128, 2, 2)]
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    image = [torch.rand(3, 40, 50)]
    with torch.inference_mode():
        assert same_state(model.eval()(image)[0], twin.eval()(image)[0])


def test_the_last_map_before_the_resolution_halves_is_taken():
    backbone = PyramidBackbone(mobilenet_v2(weights=None), [8, 16], 32, 32, 5)
    # MobileNetV2's expansions before strides 16 and 32, and its last layer
    inner = [block[0].in_channels for block in backbone.fpn.inner_blocks]
    assert inner == [192, 576, 1280]


def test_frozen_stages_are_not_trained_and_the_rest_is():
    def frozen(n):
        model = build_model(num_classes=3, trainable_backbone_layers=n, **SMALL)
        return {name for name, p in model.named_parameters() if not p.requires_grad}

    assert frozen(5) == frozen(None) == set()
    body = {n for n, _ in build_model(num_classes=3, **SMALL).named_parameters() if ".body." in n}
    assert frozen(0) == body
    assert frozen(4) < frozen(3) < frozen(1) < body
    assert "backbone.body.features.4.conv.1.0.weight" not in frozen(3)  # strides from 4 to 8
    assert "backbone.body.features.3.conv.1.0.weight" in frozen(3)


def test_frozen_batch_norm_keeps_statistics_scale_and_shift(tmp_path):
    classifier = get_model("mobilenet_v2", weights=None)
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.weight)
    file = save(classifier, tmp_path / "weights.pth")
    model = build_model(num_classes=3, weights_backbone=file, frozen_batch_norm=True, **SMALL)
    norm = model.backbone.body.get_submodule("features.0.1")
    assert isinstance(norm, FrozenBatchNorm2d)
    assert torch.equal(norm.running_mean, classifier.features[0][1].running_mean)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    assert all("features.0.1" not in name for name, _ in model.named_parameters())
    # the same numbers as batch norm in eval mode
    x = torch.rand(1, 32, 4, 4)
    torch.testing.assert_close(norm(x), classifier.eval().features[0][1](x))


def test_anchors_have_the_stated_scales_at_the_cells_centers():
    generator = ScaledBoxGenerator([[0.25, 0.5], [0.75]], [1.0, 4.0])
    assert generator.num_anchors_per_location() == [4, 2]
    boxes = generator._grid_default_boxes([[2, 2], [1, 1]], [100, 100])
    assert boxes.shape == (2 * 2 * 4 + 2, 4)
    expected = [
        [0.25, 0.25, 0.25, 0.25],
        [0.25, 0.25, 0.5, 0.125],
        [0.25, 0.25, 0.5, 0.5],
        [0.25, 0.25, 1.0, 0.25],
        [0.75, 0.25, 0.25, 0.25],  # the next cell of the row
    ]
    torch.testing.assert_close(boxes[:5], torch.tensor(expected))


def test_anchors_are_exact_under_bfloat16():
    model = build_model(num_classes=3, **SMALL)
    images, _ = model.transform([torch.rand(3, 96, 96)])
    maps = list(model.backbone(images.tensors).values())
    exact = model.anchor_generator(images, maps)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.anchor_generator(images, [x.bfloat16() for x in maps])
    assert torch.equal(exact[0], rounded[0])


def test_options_that_contradict_each_other():
    for arguments, message in (
        ({"strides": [8, 16]}, "3 entries for 2 strides"),
        ({"anchor_scales": [[20], [40], [80]]}, "parts of the image"),
        ({"anchor_scales": [[0.1], [], [0.2]]}, "one or more for each stride"),
        ({"aspect_ratios": [0]}, "aspect_ratios"),
        ({"out_channels": 0}, "out_channels=0"),
        ({"strides": [16, 8], "anchor_scales": [[0.1]] * 2}, "ascend"),
        ({"strides": [8, 24], "anchor_scales": [[0.1]] * 2}, "powers of two"),
        ({"strides": [8, 64], "anchor_scales": [[0.1]] * 2}, "ascend"),
        ({"backbone": "mobilenet"}, "no classification model .*; did you mean 'mobilenet_v"),
        ({"trainable_backbone_layers": 6}, r"0\.\.5, not 6"),
        ({"backbone": "vit_b_16"}, "cannot be a backbone"),
        ({"backbone": "squeezenet1_1"}, r"none of \[32\]"),
    ):
        with pytest.raises(ValueError, match=message):
            build_over_backbone("ssd", 3, **{"backbone": "mobilenet_v2", **arguments})
    with pytest.raises(ValueError, match="no model 'ssd512'; did you mean 'ssd'"):
        build_model("ssd512", 3)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet18"])
def test_a_faster_rcnn_over_any_backbone(backbone, images, targets):
    model = build_model(
        "fasterrcnn",
        5,
        backbone=backbone,
        image_size=96,
        strides=[8, 16],
        anchor_scales=[[0.125, 0.25], [0.5, 0.75]],
        aspect_ratios=[1.0, 4.0],
        out_channels=32,
        **FEW_BOXES,
    )
    batch, _ = model.transform(images)
    maps = model.backbone(batch.tensors)
    assert [tuple(x.shape) for x in maps.values()] == [(2, 32, 12, 12), (2, 32, 6, 6)]
    anchors = model.rpn.anchor_generator(batch, list(maps.values()))
    assert [len(x) for x in anchors] == [(12 * 12 + 6 * 6) * 4] * 2
    # sides of 12 and 24, then of 48 and 72 pixels, in the last cell 72 times the square root of 4
    assert anchors[0][0].tolist() == [-6, -6, 6, 6]
    assert anchors[0][2].tolist() == [-12, -3, 12, 3]
    assert anchors[0][-1].tolist() == [80 - 72, 80 - 18, 80 + 72, 80 + 18]
    assert model.roi_heads.box_predictor.cls_score.out_features == 5
    losses = model(images, targets)
    sum(losses.values()).backward()
    assert losses.keys() == {
        "loss_classifier",
        "loss_box_reg",
        "loss_objectness",
        "loss_rpn_box_reg",
    }
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters())
    # an untrained classifier says about log 5
    assert losses["loss_classifier"].item() == pytest.approx(math.log(5), abs=0.5)
    with torch.inference_mode():
        found = model.eval()(images)
    assert all(0 < len(x["boxes"]) <= 6 and x["labels"].max() < 5 for x in found)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet18"])
def test_a_retinanet_over_any_backbone(backbone, images, targets):
    model = build_model(
        "retinanet",
        5,
        backbone=backbone,
        image_size=96,
        strides=[8, 32],  # whose anchors nothing pools from: a stride may be left out
        anchor_scales=[[0.125, 0.25], [0.5, 0.75]],
        aspect_ratios=[1.0, 4.0],
        out_channels=32,
    )
    batch, _ = model.transform(images)
    maps = list(model.backbone(batch.tensors).values())
    anchors = model.anchor_generator(batch, maps)
    assert [len(x) for x in anchors] == [(12 * 12 + 3 * 3) * 4] * 2
    assert anchors[0][2].tolist() == [-12, -3, 12, 3]
    assert anchors[0][-1].tolist() == [64 - 72, 64 - 18, 64 + 72, 64 + 18]
    outputs = model.head(maps)
    # After group norm a tower says something; without, it starts at next to nothing.
    assert outputs["cls_logits"].shape == (2, 153 * 4, 5) and outputs["cls_logits"].std() > 0.05
    check_training(model, {"classification", "bbox_regression"}, images, targets)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet18"])
def test_an_fcos_over_any_backbone(backbone, images, targets):
    model = build_model(
        "fcos", 5, backbone=backbone, image_size=96, strides=[8, 16], out_channels=32
    )
    batch, _ = model.transform(images)
    maps = list(model.backbone(batch.tensors).values())
    points = model.anchor_generator(batch, maps)[0]
    assert len(points) == 12 * 12 + 6 * 6
    assert points[13].tolist() == [4, 4, 12, 12]  # of the second row and column, around (8, 8)
    assert points[-1].tolist() == [72, 72, 88, 88]
    assert model.head(maps)["cls_logits"].shape == (2, 180, 5)
    check_training(model, {"classification", "bbox_regression", "bbox_ctrness"}, images, targets)
    # 16 pixels and less from its center, 64 and more to its farthest side: on the second map.
    for box, counts in (([30, 34, 52, 62], [9, 0]), ([-40, -40, 136, 136], [0, 9])):
        boxes = [torch.tensor([box], dtype=torch.float32)]
        index = responsible(boxes, [points], [144, 36], model.center_sampling_radius)[0]
        assert [(x == 0).sum().item() for x in index.split([144, 36])] == counts


def check_training(model, names, images, targets):
    losses = model(images, targets)
    sum(losses.values()).backward()
    assert losses.keys() == names and all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None for p in model.parameters())
    model.score_thresh = 0.0
    with torch.inference_mode():
        found = model.eval()(images)
    assert all(len(x["boxes"]) and x["labels"].max() < 5 for x in found)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_towers_start_as_he_et_al_have_it(name):
    model = build_model(name, 3, backbone="mobilenet_v2", out_channels=64)
    for branch in (model.head.classification_head, model.head.regression_head):
        layers = [m for m in branch.conv.modules() if isinstance(m, torch.nn.Conv2d)]
        assert len(layers) == 4
        for layer in layers:
            assert layer.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    last = model.head.classification_head.cls_logits
    assert last.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert last.bias[0].item() == pytest.approx(-math.log(99))


def test_the_towers_of_a_retinanet_and_an_fcos_normalise_32_channels_together():
    for name in ("retinanet", "fcos"):
        with pytest.raises(ValueError, match=f"multiple of 32 for {name}.*not 100"):
            build_model(name, 3, backbone="mobilenet_v2", out_channels=100)


def test_an_fcos_has_no_anchors_and_leaves_no_stride_out():
    for options, message in (
        ({"anchor_scales": [[0.1]] * 3}, "anchor_scales is not for fcos, which predicts from po"),
        ({"aspect_ratios": [1.0]}, "aspect_ratios is not for fcos"),
        # what reaches 64 to 128 pixels would be nobody's
        ({"strides": [8, 32]}, r"strides double, not \[8, 32\]"),
        ({"strides": []}, "strides ascend"),
    ):
        with pytest.raises(ValueError, match=message):
            build_model("fcos", 3, backbone="mobilenet_v2", **options)


@pytest.mark.parametrize("name", ["fasterrcnn", "retinanet"])
def test_anchors_of_one_head_are_equally_many_at_every_stride(name):
    unequal = {"backbone": "mobilenet_v2", "strides": [8, 16], "anchor_scales": [[0.1, 0.2], [0.4]]}
    with pytest.raises(ValueError, match=r"equally many for each, not \[\[0.1, 0.2\], \[0.4\]\]"):
        build_model(name, 3, **unequal)
    assert build_model("ssd", 3, **unequal).anchor_generator.num_anchors_per_location() == [2, 1]


def test_a_faster_rcnn_leaves_no_stride_out():
    # torchvision pools large boxes of such maps as zeros
    skipping = {"strides": [8, 32], "anchor_scales": [[0.1], [0.5]]}
    with pytest.raises(ValueError, match=r"no stride left out of \[8, 32\]"):
        build_model("fasterrcnn", 3, backbone="mobilenet_v2", **skipping)


@pytest.fixture(scope="module")
def backbone_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(0)
    return {
        name: save(get_model(name, weights=None), folder / f"{name}.pth")
        for name in ("resnet50", "mobilenet_v3_large")
    }


@pytest.mark.parametrize("name", [name for name in MODEL_NAMES if "_fpn" in name])
def test_models_with_a_pyramid_are_torchvisions(name, backbone_files):
    def shapes(model):
        return {key: tuple(x.shape) for key, x in model.state_dict().items()}

    with torch.device("meta"):
        plain = get_model(name, weights=None, weights_backbone=None, num_classes=7)
        assert shapes(build_model(name, 7)) == shapes(plain)
    backbone = "mobilenet_v3_large" if "mobilenet" in name else "resnet50"
    file = backbone_files[backbone]
    model = build_model(name, 7, weights_backbone=file)
    expected = shapes(plain)
    frozen = any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    assert frozen == (not name.endswith("_v2"))
    if frozen:  # then there are no batches to be counted
        expected = {k: v for k, v in expected.items() if not k.endswith("num_batches_tracked")}
    assert type(model) is type(plain) and shapes(model) == expected
    weights = read_weights(file)
    body = {key: x for key, x in model.state_dict().items() if key.startswith("backbone.body.")}
    loaded = [key for key in weights if f"backbone.body.{key.removeprefix('features.')}" in body]
    assert len(loaded) >= len(body) - 2
    for key in loaded:
        assert torch.equal(body[f"backbone.body.{key.removeprefix('features.')}"], weights[key])
    with torch.device("meta"):
        rebuilt = build_model(name, 7, weights_backbone=file, load=False)
    assert shapes(rebuilt) == expected
    trained, retrained = (
        {n for n, p in m.named_parameters() if p.requires_grad} for m in (model, rebuilt)
    )
    assert trained == retrained and len(trained) < len(list(model.parameters()))


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_options_of_detections_have_one_name_for_all(name):
    options = {"score_thresh": 0.3, "nms_thresh": 0.4, "detections_per_img": 7}
    extra = {"backbone": "mobilenet_v2"} if name in OVER_BACKBONES else {}
    with torch.device("cpu" if extra else "meta"):
        model = build_model(name, 3, **options, **extra)
    holder = model.roi_heads if name.startswith("fasterrcnn") else model
    assert {key: getattr(holder, key) for key in options} == options


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_an_unknown_option_is_refused_with_the_nearest(name):
    extra = {"backbone": "mobilenet_v2"} if name in OVER_BACKBONES else {}
    for option in ("scor_thresh", "box_scor_thresh"):
        nearest = f"{name} has no option '{option}'; the nearest is '(box_)?score_thresh'"
        with pytest.raises(ValueError, match=nearest):
            build_model(name, 3, **{option: 0.3}, **extra)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of four classes with a term in mid-ramp, its weights set apart, and their file."""
    torch.manual_seed(1)
    model = attach(build_model(num_classes=4, **SMALL), features="cell", warmup_steps=10)
    terms_of(model).center.step.fill_(6)
    for loss in terms_of(model).center.losses:
        loss.centers[1:] = 0.25
    file = tmp_path_factory.mktemp("trained") / "checkpoint.pth"
    torch.save({"model": model.state_dict(), "epoch": 3}, file)
    return model, str(file)


def test_training_on_starts_from_all_that_fits_but_the_ramps(trained):
    source, file = trained
    model = attach(build_model(num_classes=4, **SMALL), features="cell", warmup_steps=10)
    terms_of(model).center.step.fill_(2)
    matched = initialize(model, file)
    expected = source.state_dict() | {"box_terms.center.step": torch.tensor(2)}
    assert same_state(model.state_dict(), expected)
    assert not matched.left_out
    assert set(matched.loaded) == expected.keys() - {"box_terms.center.step"}
    initialize(attach(model, Recorder(), name="other", features="cell", start_step=5), file)
    assert terms_of(model).other.step == 0


def test_training_on_with_other_classes_says_what_was_left_out(trained):
    source, file = trained
    model = attach(build_model(num_classes=6, **SMALL), name="other", features="cell")
    before = {name: x.clone() for name, x in model.state_dict().items()}
    matched = initialize(model, file)
    for name, x in model.state_dict().items():
        other = source.state_dict().get(name)
        fits = other is not None and other.shape == x.shape
        assert torch.equal(x, other if fits else before[name])
        assert (name in matched.loaded) == fits
    table = matched.table().splitlines()
    # 3 levels of 2 anchors a cell: logits of 4 and of 6 classes
    key = "head.classification_head.module_list.0.weight"
    assert f"  {key} ([8, 128, 3, 3], the model has [12, 128, 3, 3])" in table
    rows = {line.split()[0]: line.split()[1:] for line in table}
    assert table[0].split() == ["part", "loaded", "left", "out", "new"]
    assert rows["head.classification_head"] == ["0", "6", "6"]
    assert rows["head.regression_head"] == ["6", "0", "0"]
    assert rows["box_terms.center"] == ["0", "4", "0"]
    assert "  box_terms.center.losses.0.centers (not in the model)" in table
    assert "new:" in table
    new = {"box_terms.other.step", *(f"box_terms.other.losses.{i}.centers" for i in range(3))}
    assert new < set(matched.new) and "  box_terms.other.losses.0.centers" in table


def test_training_on_starts_from_a_plain_torchvision_file_too(tmp_path):
    name = "ssdlite320_mobilenet_v3_large"
    plain = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    file = save(plain, tmp_path / "plain.pth")
    model = attach(build_model(name, 4), weight=1.0, features="embedding")
    matched = initialize(model, file)
    state = model.state_dict()
    assert all(torch.equal(x, state[key]) for key, x in plain.state_dict().items())
    assert not matched.left_out and set(matched.loaded) == plain.state_dict().keys()
    assert set(matched.new) == {key for key in state if key.startswith("box_terms.")}
    assert "left out:" not in matched.table()


def test_long_lists_of_keys_are_cut_short(trained):
    model = build_model(num_classes=4, **SMALL | {"backbone": "mobilenet_v3_small"})
    matched = initialize(model, trained[1])
    assert len(matched.new) > 8
    table = matched.table()
    assert f"  … and {len(matched.new) - 8} more" in table
    assert f"  … and {len(matched.left_out) - 8} more" in table


def test_a_file_of_which_nothing_fits_is_refused(tmp_path, trained):
    other = save(torch.nn.Linear(2, 2), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="other.pth: weights of another model, none of its 2"):
        initialize(trained[0], other)
    with pytest.raises(WeightsError, match="none.pth: no such"):
        initialize(trained[0], str(tmp_path / "none.pth"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_moved_to_another_dtype_detects_in_it(dtype):
    for kind, scales in (("ssd", [[0.2], [0.4]]), ("fasterrcnn", [[0.2], [0.4]])):
        model = build_model(
            kind, 3, backbone="mobilenet_v2", image_size=96, strides=[8, 16], anchor_scales=scales
        )
        image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0)).to(dtype)
        with torch.no_grad():
            try:
                (found,) = model.to(dtype).eval()([image])
            except (NotImplementedError, RuntimeError) as error:  # torchvision's own on CPUs
                assert "not implemented for" in str(error)
            else:
                assert found["boxes"].dtype == found["scores"].dtype == dtype


def test_a_fixed_radius_stays_the_recipes(tmp_path):
    model, other = (build_model("ssd", 3, **ARCHITECTURE) for _ in range(2))
    set_l2_softmax(model, 16.0)
    set_l2_softmax(other, 30.0)
    initialize(other, save(model, tmp_path / "model.pth"))
    radii = [x.item() for name, x in other.named_buffers() if name.endswith("radius")]
    assert radii and set(radii) == {30.0}
    learnt = set_l2_softmax(build_model("ssd", 3, **ARCHITECTURE), 20.0, learnt=True)
    initialize(learnt, save(model, tmp_path / "model.pth"))
    assert {p.item() for name, p in learnt.named_parameters() if name.endswith("radius")} == {16.0}


def test_options_that_would_have_no_effect_are_refused():
    for option in ("kwargs", "self", "options", "foo"):
        with pytest.raises(ValueError, match=f"no option '{option}'"):
            build_model("ssd", 3, **ARCHITECTURE, **{option: 1})


def test_training_on_starts_draws_anew_and_finds_the_terms_of_earlier_versions(tmp_path):
    def model():
        over = build_model(num_classes=4, **SMALL)
        return attach(attach(over, features="cell"), RankHardLoss(), name="rank")

    source = model()
    terms_of(source).rank.losses[0].calls = 5
    table = terms_of(source).center.losses[0].centers
    table[1:] = 1.0
    state = source.state_dict()
    for prefix in ("", "head.", "roi_heads."):
        old = {k.replace("box_terms.", f"{prefix}box_terms."): v for k, v in state.items()}
        file = save(Saved(old), tmp_path / "old.pth")
        other = model()
        matched = initialize(other, file)
        assert terms_of(other).rank.losses[0].calls == 0
        assert torch.equal(terms_of(other).center.losses[0].centers, table)
        assert not matched.left_out


class Saved:
    """Has the keys of an earlier version."""

    def __init__(self, state):
        self.state_dict = lambda: state
