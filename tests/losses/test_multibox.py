import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from detcenter import MultiBoxLoss
from detcenter.losses import multibox

ANCHORS, CLASSES = 60, 5


@pytest.fixture(autouse=True, params=["cpu", "device"])
def way(request, monkeypatch):
    """As on the CPU, where looking at numbers is free, and as on a device, where it is not."""
    if request.param == "device":
        monkeypatch.setattr(multibox, "looking_is_free", lambda values: False)


@pytest.fixture(scope="module")
def plain_ssd():
    """A torchvision SSD for its `compute_loss`; backbone and head are never run."""
    generator = DefaultBoxGenerator([[2]], scales=[0.2, 0.4])
    nothing = torch.nn.Identity()
    return SSD(nothing, generator, (64, 64), CLASSES, head=torch.nn.Identity())


def case(seed, objects):
    """Random head outputs and targets; `objects` are the numbers of positives an image has."""
    generator = torch.Generator().manual_seed(seed)
    images = len(objects)
    cls_logits = 3 * torch.randn(images, ANCHORS, CLASSES, generator=generator)
    bbox_regression = torch.randn(images, ANCHORS, 4, generator=generator)
    corners = 40 * torch.rand(images, ANCHORS, 2, generator=generator)
    anchors = torch.cat([corners, corners + 1 + 20 * torch.rand(images, ANCHORS, 2)], dim=2)
    targets, matched = [], []
    for count in objects:
        low = 40 * torch.rand(3, 2, generator=generator)
        boxes = torch.cat([low, low + 1 + 20 * torch.rand(3, 2, generator=generator)], dim=1)
        labels = torch.randint(1, CLASSES, (3,), generator=generator)
        targets.append({"boxes": boxes, "labels": labels})
        idxs = torch.full((ANCHORS,), -1)
        chosen = torch.randperm(ANCHORS, generator=generator)[:count]
        idxs[chosen] = torch.randint(0, 3, (count,), generator=generator)
        matched.append(idxs)
    return cls_logits.requires_grad_(), bbox_regression.requires_grad_(), anchors, targets, matched


def ours(model, cls_logits, bbox_regression, anchors, targets, matched, **options):
    """The same through `MultiBoxLoss`, with targets made by a loop over the images."""
    labels = torch.zeros(len(targets), ANCHORS, dtype=torch.long)
    encoded = torch.full((len(targets), ANCHORS, 4), 99.0)  # of no consequence on background
    for i, (target, idxs) in enumerate(zip(targets, matched, strict=True)):
        positive = idxs >= 0
        labels[i, positive] = target["labels"][idxs[positive]]
        boxes = target["boxes"][idxs[positive]]
        encoded[i, positive] = model.box_coder.encode_single(boxes, anchors[i, positive])
    positive = torch.stack(matched) >= 0
    return MultiBoxLoss(**options)(cls_logits, bbox_regression, labels, encoded, positive)


@pytest.mark.parametrize(
    "objects",
    [[3, 7], [0, 5], [0, 0], [1], [14, 15, 2], [30, 2], [60, 0]],
    ids=lambda objects: "-".join(map(str, objects)),
)
@pytest.mark.parametrize("seed", [0, 1])
def test_values_and_gradients_equal_torchvision(plain_ssd, objects, seed):
    # with 30 of 60 anchors positive, 90 negatives are wanted and 30 exist
    cls_logits, bbox_regression, anchors, targets, matched = case(seed, objects)
    outputs = {"cls_logits": cls_logits, "bbox_regression": bbox_regression}
    expected = plain_ssd.compute_loss(targets, outputs, list(anchors), matched)
    got = ours(plain_ssd, cls_logits, bbox_regression, anchors, targets, matched)
    assert got.keys() == expected.keys()
    leaves = (cls_logits, bbox_regression)
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-5)
        gradients = (
            torch.autograd.grad(loss[name], leaves, allow_unused=True, materialize_grads=True)
            for loss in (got, expected)
        )
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ratio", [0, 0.4, 2.5, 100])
def test_any_ratio_and_objects_labelled_background_are_torchvisions_too(ratio):
    generator = DefaultBoxGenerator([[2]], scales=[0.2, 0.4])
    nothing = torch.nn.Identity()
    model = SSD(nothing, generator, (64, 64), CLASSES, head=nothing)
    model.neg_to_pos_ratio = ratio
    cls_logits, bbox_regression, anchors, targets, matched = case(3, [6, 9, 0])
    targets[0]["labels"] = torch.tensor([2, 0, 0])
    outputs = {"cls_logits": cls_logits, "bbox_regression": bbox_regression}
    expected = model.compute_loss(targets, outputs, list(anchors), matched)
    inputs = cls_logits, bbox_regression, anchors, targets, matched
    got = ours(model, *inputs, neg_to_pos_ratio=ratio)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_with_a_floor_images_without_objects_teach_the_background(plain_ssd):
    cls_logits, bbox_regression, anchors, targets, matched = case(0, [0, 0])
    losses = ours(
        plain_ssd, cls_logits, bbox_regression, anchors, targets, matched, min_negatives=6
    )
    # the 6 hardest of each image, divided by 2 * 6 / 3
    background = -cls_logits.log_softmax(-1)[..., 0]
    expected = background.sort(1, descending=True).values[:, :6].sum() / 4
    torch.testing.assert_close(losses["classification"], expected)
    losses["classification"].backward()
    taught = cls_logits.grad.abs().sum(-1) > 0
    assert taught.sum(1).tolist() == [6, 6]


def test_a_floor_that_plays_no_part_changes_nothing(plain_ssd):
    inputs = case(0, [4, 9])
    without, with_floor = (ours(plain_ssd, *inputs, min_negatives=floor) for floor in (0, 12))
    torch.testing.assert_close(with_floor, without)


def test_wrong_use_names_the_shapes():
    loss = MultiBoxLoss()
    logits, boxes = torch.zeros(2, 9, 3), torch.zeros(2, 9, 4)
    for labels, encoded in (((2, 8), (2, 9, 4)), ((2, 9), (1, 4))):
        with pytest.raises(ValueError, match=rf"\[2, 9, 3\].*\{list(labels)}, \{list(encoded)}"):
            loss(logits, boxes, torch.zeros(labels, dtype=torch.long), torch.zeros(encoded))
    for wrong in ((-1, 0), (0, 1), (3, -1)):
        with pytest.raises(ValueError):
            MultiBoxLoss(*wrong)
