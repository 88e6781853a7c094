"""What a recipe is proposed for: data and machines that a test makes up."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from detcenter.analysis.symmetry import Symmetry
from detcenter.recipe.anchors import Anchors, fitting_anchors, fitting_strides, near_points, reached
from detcenter.recipe.config import DataConfig, flat
from detcenter.recipe.datasets import training_set
from detcenter.recipe.detectors import builder_arguments, detector
from detcenter.recipe.facts import Facts, Machine, downloaded_weights, facts_of, this_machine
from detcenter.recipe.orientation import opposites, writing
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.recipe.proposal import (
    batch_size_for,
    epochs_for,
    image_size_for,
    propose,
    workers_for,
)
from detcenter.recipe.written import config_of, recipe_text
from tests.data.layouts import OBJECT

CPU, GPU = Machine(4, None, False), Machine(16, 80.0, True)
DATA = DataConfig("coco", "data/parts", "train.json", "val.json")


def boxes_of(*sides, count=50, ratio=1.0, seed=0):
    """As many boxes of every side, anywhere in the image."""
    rng = np.random.default_rng(seed)
    side = np.repeat(sides, count)[:, None] * [ratio**0.5, ratio**-0.5]
    corner = rng.random((len(side), 2)) * (1 - side)
    return np.concatenate([corner, corner + side], axis=1)


def facts(boxes=None, images=200, size=640, classes=("bolt", "nut"), symmetry=None):
    boxes = boxes_of(0.06, 0.09, count=10) if boxes is None else boxes
    return Facts(images, float(size), size * 0.75, list(classes), boxes, symmetry)


def proposed(of=None, machine=CPU, downloaded=lambda backbone: None, **given):
    given = {key.replace("__", "."): value for key, value in given.items()}
    return propose(of or facts(), DATA, machine, given, downloaded)


def values_of(lines):
    return {key: line.value for key, line in lines.items()}


@pytest.mark.parametrize(
    ("machine", "given"),
    [
        (CPU, {}),
        (GPU, {"center__alpha": 0.1}),
        (CPU, {"model__name": "fasterrcnn", "model__weights_backbone": None}),
        (GPU, {"model__name": "retinanet", "model__weights_backbone": None}),
        (CPU, {"model__name": "fcos", "model__weights_backbone": None}),
    ],
)
def test_the_text_is_the_recipe_and_makes_a_detector(machine, given, tmp_path):
    lines = proposed(facts(boxes_of(0.03, 0.1, 0.5, ratio=0.6, count=10)), machine, **given)
    path = tmp_path / "written.yaml"
    path.write_text(recipe_text(lines, ["detcenter train", "two lines"]))
    config, _ = parse_recipe(recipe_parser("test", ""), ["--config", str(path)])
    assert config == config_of(lines)
    read = flat(config)
    assert {key: read[key] for key in lines} == values_of(lines)
    assert all(line.value != "" for line in lines.values())
    detector(config, builder_arguments(config.model, ["bolt", "nut"]), load=False)


def test_every_reason_is_above_its_line():
    lines = proposed()
    text = recipe_text(lines, ["first", "second\nthird"])
    assert text.splitlines()[:2] == ["# first", r"# second\nthird"]
    for key, line in lines.items():
        at = text.index(f" {key.rpartition('.')[2]}: ")
        above = text[:at].rstrip().splitlines()
        if line.why:
            assert line.why.split()[-1] in above[-1] and above[-1].lstrip().startswith("# ")
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("name", ["ssd", "fasterrcnn", "fcos"])
def test_reasons_are_in_words_of_a_newcomer(machine, name):
    """They name things as the recipe does, say what a number counts, and advise no bad way out."""
    lines = proposed(machine=machine, model__name=name)
    said = {key: line.why for key, line in lines.items()}
    assert not re.search(r"\bterm|k-means|\bIoU|scratch|of lr|\bnull\b", " ".join(said.values()))
    for key, what in (
        ("model.image_size", "pixels"), ("model.strides", "pixels"), ("train.batch_size", "images"),
        ("train.epochs", "images"), ("train.eval_every", "epochs"), ("train.warmup_steps", "steps"),
        ("train.lr", "rate"), ("train.backbone_lr_factor", "times lr"),
    ):  # fmt: skip
        assert what in said[key], key


def test_names_that_yaml_could_misread_stay_what_they_are(tmp_path):
    odd = ["yes", "1", "a: b # c", "null", "left\u2028x", "[d]", "right\nx"]
    data = DataConfig("voc", "da: ta #1", "0123", "val\u0085", classes=odd)
    lines = propose(facts(classes=odd), data, CPU, {}, lambda backbone: None)
    assert "left" in lines["data.augment.flip"].why or not lines["data.augment.flip"].value
    path = tmp_path / "odd.yaml"
    path.write_text(recipe_text(lines, ["a\u2028b: c"]), encoding="utf-8")
    config, _ = parse_recipe(recipe_parser("test", ""), ["--config", str(path)])
    assert config.data.classes == odd
    assert (config.data.root, config.data.train, config.data.val) == (
        "da: ta #1",
        "0123",
        "val\u0085",
    )


def test_what_is_given_is_kept_and_the_rest_fitted_to_it():
    given = {"model__image_size": 640, "train__batch_size": 2, "train__epochs": 3}
    lines = proposed(center=None, train__seed=7, model__score_thresh=0.1, **given)
    values = values_of(lines)
    assert values["model.image_size"] == 640 and values["train.seed"] == 7
    assert values["train.eval_every"] == 1 and values["train.lr"] == 0.001
    assert lines["train.warmup_steps"].why == "of 300 steps, in which lr rises"
    assert values["model.strides"] == [16]  # an anchor of 47 pixels; at 320 of 24
    assert values_of(proposed())["model.strides"] == [8]
    assert values["center"] is None and "center.weight" not in values
    sections = list(dict.fromkeys(key.partition(".")[0] for key in lines))
    assert sections == ["model", "center", "data", "train"]


def test_the_model_follows_the_machine():
    on_cpu, on_gpu = values_of(proposed()), values_of(proposed(machine=GPU))
    assert (on_cpu["model.name"], on_cpu["model.backbone"]) == ("ssd", "mobilenet_v2")
    assert (on_gpu["model.name"], on_gpu["model.backbone"]) == ("fasterrcnn", "resnet50")
    assert (on_cpu["center.features"], on_cpu["center.weight"]) == ("embedding", 0.3)
    assert (on_gpu["center.features"], on_gpu["center.weight"]) == ("box", 3.0)
    assert on_gpu["train.mixed_precision"] == "bf16" and "train.mixed_precision" not in on_cpu
    assert values_of(proposed(machine=GPU, center__features="embedding"))["center.weight"] == 0.3
    older = values_of(proposed(machine=Machine(16, 11.0, False)))
    assert "train.mixed_precision" not in older and older["train.batch_size"] == 4
    fewer = values_of(proposed(model__name="fasterrcnn"))
    assert fewer["model.options.rpn_post_nms_top_n_train"] == 500
    assert not any(key.startswith("model.options") for key in on_gpu)


def test_weights_and_what_follows_from_them():
    lines = proposed(downloaded={"mobilenet_v2": "IMAGENET1K_V1"}.get)
    assert lines["model.weights_backbone"].value == "IMAGENET1K_V1"
    assert "already" in lines["model.weights_backbone"].why
    values = values_of(proposed())
    assert values["model.weights_backbone"] == "DEFAULT" and values["train.backbone_lr_factor"] == 1
    deep = values_of(proposed(facts(boxes_of(0.06, 0.5, count=10))))
    assert deep["model.strides"][-1] == 32 and deep["train.backbone_lr_factor"] == 0.3
    assert values_of(proposed(model__name="fasterrcnn"))["train.backbone_lr_factor"] == 0.2
    assert values["model.frozen_batch_norm"] is True
    scratch = values_of(proposed(model__weights_backbone=None))
    assert scratch["model.backbone"] == "resnet18" and scratch["model.weights_backbone"] is None
    for key in (
        "model.frozen_batch_norm",
        "train.backbone_lr_factor",
        "model.trainable_backbone_layers",
    ):
        assert key not in scratch
    whole = values_of(proposed(model__weights="run.pth"))
    assert "model.weights_backbone" not in whole and whole["train.backbone_lr_factor"] == 1
    many = [f"part {chr(97 + n)}{chr(97 + n)}" for n in range(40)]
    given = {"model__name": "fasterrcnn", "model__weights_backbone": None, "train__epochs": 8}
    assert "center.warmup_steps" not in values_of(proposed(**given))
    risen = values_of(proposed(facts(classes=many), **given))
    assert risen["center.warmup_steps"] == 8 * 25 // 2


def test_weights_that_lie_in_the_cache_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    assert downloaded_weights("mobilenet_v2") is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mobilenet_v2-b0353104.pth").touch()
    assert downloaded_weights("mobilenet_v2") == "IMAGENET1K_V1"
    (tmp_path / "checkpoints" / "mobilenet_v2-7ebf99e0.pth").touch()
    assert downloaded_weights("mobilenet_v2") == "DEFAULT"


def test_this_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert this_machine() == Machine(3, None, False)
    gpu = SimpleNamespace(total_memory=24 * 2**30)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: gpu)
    for emulated in (False, True):  # torch calls both supported, unless asked for no emulation

        def supported(including_emulation=True, emulated=emulated):
            return including_emulation or not emulated

        monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
        assert this_machine() == Machine(3, 24.0, not emulated)


@pytest.mark.parametrize(
    ("side", "pixels", "gpu", "size"),
    [
        (0.05, 640, False, 320),  # 16 pixels of 320
        (0.2, 640, False, 320),  # no less
        (0.038, 640, False, 416),  # 16 / 0.038 is 421, 13.2 times 32
        (0.01, 4000, False, 512),  # no more
        (0.04, 330, False, 352),  # no more than the images have
        (0.2, 160, False, 160),
        (0.2, 40, False, 128),
        (0.05, 640, True, 640),
        (0.2, 4000, True, 512),
        (0.01, 4000, True, 1024),
    ],
)
def test_image_size(side, pixels, gpu, size):
    assert image_size_for(facts(boxes_of(side), size=pixels), gpu) == size


def test_epochs_batches_and_workers():
    assert [epochs_for(n, False) for n in (20, 200, 292, 100_000)] == [100, 60, 41, 10]
    assert [epochs_for(n, True) for n in (20, 200, 1000, 100_000)] == [200, 200, 40, 12]
    assert [batch_size_for(n, 320, None) for n in (3, 200)] == [3, 8]
    assert [batch_size_for(200, 800, gib) for gib in (2, 8, 24, 80)] == [1, 2, 4, 16]
    assert [workers_for(Machine(n, None, False)) for n in (1, 2, 4, 64)] == [0, 1, 2, 4]
    assert [workers_for(Machine(n, 80.0, True)) for n in (1, 4, 64)] == [0, 3, 8]


@pytest.mark.parametrize(
    "classes",
    [
        "0 1 2",
        "one two three",
        "digit_1 digit_7",
        "b d p q",
        "left_hand right_hand",
        "turnLeft turnRight",
        "shoe.L shoe.R shoe",
        "10h As",
        "person text",
        "Arrow",
        "licence-plate",
        "cw ccw",
    ],
)
def test_names_that_a_mirror_makes_wrong(classes):
    names = classes.split()
    assert (opposites(names) or writing(names)) is not None


@pytest.mark.parametrize(
    "classes",
    [
        "Platelets RBC WBC",
        "black_bishop white_bishop",
        "cat",
        "person car left_hand",
        "letterbox template",
        "class_a truck",
        "model 3 truck",
        "bright light",
        "ship port",
    ],
)
def test_names_that_say_nothing_against_it(classes):
    assert opposites(classes.split()) is None and writing(classes.split()) is None


@pytest.mark.parametrize(
    ("classes", "seen", "flip", "rotate90"),
    [
        ("bolt nut", None, True, False),
        ("one two", None, False, False),
        ("one two", Symmetry(0.7, 0.6), True, True),  # dice
        ("0 1", Symmetry(0.1, 0.1), False, False),
        ("rook king", Symmetry(0.9, 0.1), True, False),
        ("left_shoe right_shoe", Symmetry(0.7, 0.7), False, False),
    ],
)
def test_objects_are_believed_before_their_names(classes, seen, flip, rotate90):
    lines = proposed(facts(classes=classes.split(), symmetry=seen))
    assert lines["data.augment.flip"].value is flip
    assert lines["data.augment.rotate90"].value is rotate90


@pytest.mark.parametrize("detector", ["ssd", "fasterrcnn", "retinanet"])
def test_anchors_are_few_and_reach_their_objects(detector):
    boxes = boxes_of(0.06, 0.2, 0.5, ratio=0.3)
    own = Anchors([8, 16, 32], [[0.07, 0.13], [0.2, 0.35], [0.5, 0.8]], [1.0])
    fitted = fitting_anchors(boxes, 320, detector)
    before, after = (reached(boxes, 320, anchors, detector) for anchors in (own, fitted))
    assert before == 0 and after > 0.9
    assert fitted.aspect_ratios == [0.3] and sum(map(len, fitted.anchor_scales)) == 3
    assert fitted.strides == [8, 16, 32]  # 19, 64 and 160 pixels, half as wide
    assert [x for level in fitted.anchor_scales for x in level] == [0.06, 0.2, 0.5]


@pytest.mark.parametrize("detector", ["fasterrcnn", "retinanet"])
def test_one_head_has_equally_many_anchors_at_strides_without_a_gap(detector):
    boxes = boxes_of(0.05, 0.06, 0.6)  # an SSD takes strides 8 and 32
    assert fitting_anchors(boxes, 320, "ssd").strides == [8, 32]
    fitted = fitting_anchors(boxes, 320, detector)
    assert len({len(level) for level in fitted.anchor_scales}) == 1
    assert fitted.strides == [8 * 2**n for n in range(len(fitted.strides))]


def test_an_fcos_has_the_strides_that_its_objects_go_to():
    # half the longer side in pixels of 320: 16; 80 is on stride 16, 144 on stride 32
    for sides, strides in (([0.1], [8]), ([0.1, 0.5], [8, 16]), ([0.1, 0.9], [8, 16, 32])):
        boxes = boxes_of(*sides)
        assert fitting_strides(boxes, 320) == strides
        assert near_points(boxes, 320, strides) > 0.9
    assert fitting_strides(boxes_of(0.5, 0.9), 320) == [16, 32]
    values = values_of(proposed(model__name="fcos"))
    assert values["model.strides"] == [8] and values["center.features"] == "embedding"
    assert "model.anchor_scales" not in values and "model.aspect_ratios" not in values


def test_small_images_end_at_stride_16_unless_objects_fill_them():
    small = values_of(proposed(facts(boxes_of(0.2, count=10), size=160)))
    assert small["model.strides"] == [8] and small["model.top_stride"] == 16
    filled = values_of(proposed(facts(boxes_of(0.2, 0.8, count=10), size=160)))
    assert filled["model.strides"][-1] == 32 and "model.top_stride" not in filled


def test_facts_are_of_what_is_learnt_from(voc):
    difficult = OBJECT.format("cat", 2, 3, 21, 22).replace(
        "<object>", "<object><difficult>1</difficult>"
    )
    voc.page("b", OBJECT.format("cat", 2, 3, 11, 22), difficult)
    found = facts_of(training_set(voc.config))
    assert (found.images, found.width, found.height, found.classes) == (3, 40, 30, ["cat"])
    np.testing.assert_allclose(found.boxes, [[1 / 40, 2 / 30, 11 / 40, 22 / 30]] * 3)
    voc.config.keep_difficult = True
    assert len(facts_of(training_set(voc.config)).boxes) == 4


def test_the_text_holds_one_section_of_each_name():
    lines = proposed(model__score_thresh=0.1, data__augment__crop=False, train__seed=3)
    text = recipe_text(lines, [])
    assert [text.count(f"{name}:\n") for name in ("model", "  augment", "train")] == [1, 1, 1]
    assert yaml.safe_load(text)["data"]["augment"]["crop"] is False
