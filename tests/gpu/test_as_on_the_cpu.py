"""A step on the device against the same step on the CPU: losses, gradients, centers, detections."""

import copy

import pytest
import torch

from detcenter import attach, box_features, detect_with_features, fast
from detcenter.losses import CenterLoss, MultiBoxLoss, RankHardLoss
from tests.tiny_detectors import BOXES, BUILDERS, CLASSES, batch, built

pytestmark = pytest.mark.gpu
IMAGES = 4
CELLS = [family for family in BUILDERS if family != "fasterrcnn"]


def prepared(family, features=None, make_fast=False):
    """An R-CNN takes all boxes that it may draw from, or the devices would draw others."""
    model = built(family)
    if family == "fasterrcnn":
        for part in (model.rpn, model.roi_heads):
            part.fg_bg_sampler.batch_size_per_image = 100_000
    attach(model, weight=0.3, features=features)
    return fast(model) if make_fast else model


def step(model, device, dtype=None, scale=1.0):
    """Two, so that centers have moved when they are read: losses and gradients of the second."""
    data = batch(IMAGES, device)
    for _ in range(2):
        model.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            losses = model(*data)
        (scale * sum(losses.values())).backward()
    gradients = {n: p.grad / scale for n, p in model.named_parameters() if p.grad is not None}
    centers = {n: x for n, x in model.named_buffers() if n.endswith("centers")}
    return losses, gradients, centers


def compare(found, expected, rounding):
    """Against the largest value of a tensor: small ones are what rounding leaves of large ones."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        got, value = (x.detach().float().cpu() for x in (found[name], value))
        worst = (got - value).abs().max() if value.numel() else 0.0
        most = rounding * max(1.0, value.abs().max().item() if value.numel() else 0.0)
        assert got.shape == value.shape and worst <= most, f"{name}: {worst:.3g} above {most:.3g}"


@pytest.mark.parametrize("make_fast", [False, True], ids=["torchvision's", "fast"])
@pytest.mark.parametrize("features", ["own", "embedding"])
@pytest.mark.parametrize("family", BUILDERS)
def test_float32(device, family, features, make_fast):
    own = "box" if family == "fasterrcnn" else "cell"
    model = prepared(family, own if features == "own" else features, make_fast)
    twin = copy.deepcopy(model).to(device)
    expected, found = step(model, torch.device("cpu")), step(twin, device)
    for got, wanted in zip(found, expected, strict=True):
        compare(got, wanted, 1e-5)
    assert expected[0]["loss_center"] > 0 and any(x.any() for x in expected[2].values())


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-5), (torch.float16, 2**-8)])
@pytest.mark.parametrize("family", CELLS)
def test_half_precision(device, family, dtype, rounding):
    """Against float32 on the CPU. (An R-CNN's proposals hang on the last digit of a score.)"""
    model = prepared(family)
    twin = copy.deepcopy(model).to(device)
    expected, found = step(model, torch.device("cpu")), step(twin, device, dtype)
    assert all(x.isfinite().all() for x in found[1].values())
    compare(found[0], expected[0], rounding)
    compare(found[2], expected[2], rounding)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_of_an_rcnn_is_finite_and_keeps_centers_whole(device, dtype):
    losses, gradients, centers = step(prepared("fasterrcnn").to(device), device, dtype)
    assert all(x.isfinite().all() for x in (*losses.values(), *gradients.values()))
    assert all(x.dtype == torch.float32 and x.any() for x in centers.values())


@pytest.mark.parametrize("family", BUILDERS)
def test_channels_last(device, family):
    model = prepared(family)
    twin = copy.deepcopy(model).to(device, memory_format=torch.channels_last)
    expected, found = step(model, torch.device("cpu")), step(twin, device)
    for got, wanted in zip(found, expected, strict=True):
        compare(got, wanted, 1e-5)


@pytest.mark.parametrize("make_fast", [False, True], ids=["torchvision's", "fast"])
@pytest.mark.parametrize("family", BUILDERS)
def test_detections_and_features(device, family, make_fast):
    model = prepared(family, make_fast=make_fast).eval()
    twin = copy.deepcopy(model).to(device)
    images, _ = batch(IMAGES)
    moved = [image.to(device) for image in images]
    boxes = [BOXES] * IMAGES
    features = box_features(model, images, boxes)
    there = box_features(twin, moved, [b.to(device) for b in boxes])
    for got, wanted in zip(there, features, strict=True):
        compare({"features": got}, {"features": wanted}, 1e-5)
    expected, found = detect_with_features(model, images), detect_with_features(twin, moved)
    for got, wanted in zip(found, expected, strict=True):
        assert len(wanted["scores"]) > 5
        compare(*in_one_order(got, wanted), 1e-4)  # pixels, of decoded exponentials


def in_one_order(found, expected):
    """Rounding swaps detections of nearly equal scores, and those nearly as low as the last may be
    others."""
    assert len(found["scores"]) == len(expected["scores"])
    keep = expected["scores"] > expected["scores"].min() + 1e-5
    found = {key: x.float().cpu() for key, x in found.items()}
    expected = {key: x[keep].float() for key, x in expected.items()}
    rows = [
        torch.column_stack([x["boxes"], 1000 * x["labels"], 1000 * x["scores"]])
        for x in (expected, found)
    ]
    nearest = torch.cdist(*rows, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    assert len(nearest.unique()) == len(nearest) > 5
    return {key: x[nearest] for key, x in found.items()}, expected


@pytest.mark.parametrize("name", ["center", "rank_hard", "multibox"])
def test_losses_by_themselves(device, name):
    features = torch.randn(60, 16)
    labels = 1 + torch.arange(60) % (CLASSES - 1)
    boxes = torch.randn(3, 2, 30, 4)  # as logits, codes and targets of a MultiBox loss
    by_class = labels.argsort(stable=True)
    # Of blocks, and with room for all negatives: a device draws other numbers than the CPU.
    all_violating = RankHardLoss(neg_num=60)
    all_violating.forward = all_violating.of_blocks
    values = {
        "center": (CenterLoss(CLASSES, 16), (features, labels)),
        "rank_hard": (all_violating, (features[by_class], labels[by_class])),
        "multibox": (MultiBoxLoss(), (*boxes[:2], labels.view(2, 30) - 1, boxes[2])),
    }
    loss, arguments = values[name]
    results = []
    for where in (torch.device("cpu"), device):
        moved = copy.deepcopy(loss).to(where)
        inputs = [x.detach().clone().to(where) for x in arguments]
        inputs[0].requires_grad_()
        found = moved(*inputs)
        total = sum(found.values()) if isinstance(found, dict) else found
        total.backward()
        results.append({"loss": total, "gradient": inputs[0].grad} | dict(moved.named_buffers()))
    compare(results[1], results[0], 1e-5)
