"""The losses of RetinaNet and FCOS against torchvision's own loops."""

import pytest
import torch
from torchvision.models.detection import fcos, retinanet
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetClassificationHead, RetinaNetHead
from torchvision.ops import generalized_box_iou_loss

from detcenter.adoption import adopt
from detcenter.batched.dense import FCOSLosses, RetinaNetLosses, giou_losses

ANCHORS, CLASSES = 40, 5
KINDS = ["l1", "smooth_l1", "giou", "diou", "ciou"]
COUNTS = [(3, 0, 5), (0, 0), (1,), (2, 2)]


def drawn(counts, dtype, seed=0):
    """Targets, outputs of the head, anchors, and matches of which some are to be ignored."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    def boxes(count):
        corners = random(count, 2) * 20
        return torch.cat([corners, corners + 1 + random(count, 2) * 10], 1)

    labels = [torch.randint(0, CLASSES, (n,), generator=generator) for n in counts]
    targets = [{"boxes": boxes(n), "labels": y} for n, y in zip(counts, labels, strict=True)]
    images = len(counts)
    outputs = {
        "cls_logits": random(images, ANCHORS, CLASSES) * 12 - 6,
        "bbox_regression": random(images, ANCHORS, 4),
        "bbox_ctrness": random(images, ANCHORS, 1) * 4 - 2,
    }
    outputs = {name: x.requires_grad_() for name, x in outputs.items()}
    matches = [
        torch.randint(-2 if n else -1, max(n, 0), (ANCHORS,), generator=generator) for n in counts
    ]
    return targets, outputs, [boxes(ANCHORS) for _ in counts], matches


def losses_and_gradients(head, targets, outputs, anchors, matches):
    losses = head.compute_loss(targets, outputs, anchors, matches)
    weights = torch.arange(1, 1 + len(losses), dtype=torch.float64)
    total = sum(w * loss for w, loss in zip(weights, losses.values(), strict=True))
    return losses, torch.autograd.grad(total, list(outputs.values()), materialize_grads=True)


def assert_equal(head, mixin, given, tolerance):
    expected, gradients = losses_and_gradients(head, *given)
    adopt(head, mixin)
    found, of_found = losses_and_gradients(head, *given)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=tolerance, atol=tolerance)
    for one, other in zip(of_found, gradients, strict=True):
        scale = float(other.abs().max()) or 1.0
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
def test_retinanets_losses_are_torchvisions(kind, counts, dtype, tolerance):
    head = RetinaNetHead(8, 1, CLASSES)
    head.regression_head._loss_type = kind
    given = drawn(counts, dtype)
    assert any((matches == -2).any() for matches in given[3]) or not any(counts)
    assert_equal(head, RetinaNetLosses, given, tolerance)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
def test_fcos_losses_are_torchvisions(counts, dtype, tolerance):
    targets, outputs, anchors, matches = drawn(counts, dtype)
    # A point lies in the box that it is matched with, or its centerness is not a number.
    for target, squares, of_image in zip(targets, anchors, matches, strict=True):
        of_image.clamp_(min=-1)
        for point in (of_image >= 0).nonzero().flatten().tolist():
            box = target["boxes"][of_image[point]]
            middle = box[:2] + (box[2:] - box[:2]) * (0.1 + 0.02 * point)
            squares[point] = torch.cat([middle - 2, middle + 2])
    head = FCOSHead(32, 1, CLASSES)
    assert_equal(head, FCOSLosses, (targets, outputs, anchors, matches), tolerance)


def test_what_is_ignored_teaches_nothing_however_large():
    head = RetinaNetHead(8, 1, CLASSES)
    adopt(head, RetinaNetLosses)
    given = drawn((3, 2), torch.float32)
    logits, (first, _) = given[1]["cls_logits"], given[3]
    with torch.no_grad():
        logits[0, first == -2] = torch.inf
    losses, (gradient, *_) = losses_and_gradients(head, *given)
    assert losses["classification"].isfinite()
    assert (gradient[0, first == -2] == 0).all() and gradient.isfinite().all()


def test_the_giou_loss_of_boxes_that_touch_overlap_and_do_not():
    wanted = torch.tensor([[0.0, 0, 4, 4]]).repeat(5, 1)
    found = torch.tensor(
        [[0.0, 0, 4, 4], [4, 0, 6, 4], [1, 1, 3, 9], [7, 7, 9, 9], [2, 2, 2, 2]], requires_grad=True
    )
    expected = generalized_box_iou_loss(found, wanted)
    losses = giou_losses(found, wanted)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(x.sum(), found)[0] for x in (losses, expected))
    )


@pytest.mark.parametrize(
    ("module", "head", "mixin"),
    [
        (retinanet, lambda: RetinaNetHead(8, 1, CLASSES), RetinaNetLosses),
        (fcos, lambda: FCOSHead(32, 1, CLASSES), FCOSLosses),
    ],
    ids=["retinanet", "fcos"],
)
def test_a_focal_loss_that_was_exchanged_in_torchvision_is_called(monkeypatch, module, head, mixin):
    head = head()
    adopt(head, mixin)
    monkeypatch.setattr(module, "sigmoid_focal_loss", lambda *_, **__: torch.tensor(0.0))
    targets, outputs, anchors, matches = drawn((3, 2), torch.float32)
    matches = [of_image.clamp(min=-1) for of_image in matches]
    assert head.compute_loss(targets, outputs, anchors, matches)["classification"] == 0


class Own(RetinaNetClassificationHead):
    def compute_loss(self, targets, head_outputs, matched_idxs):
        return torch.tensor(7.0)


def test_a_branch_that_computes_its_loss_itself_is_asked():
    given = drawn((3, 2), torch.float32)
    head = RetinaNetHead(8, 1, CLASSES)
    adopt(head, RetinaNetLosses)
    head.classification_head = Own(8, 1, CLASSES)
    assert head.compute_loss(*given)["classification"] == 7
    head = RetinaNetHead(8, 1, CLASSES)
    adopt(head, RetinaNetLosses)
    head.regression_head.compute_loss = lambda *given: torch.tensor(8.0)
    assert head.compute_loss(*given)["bbox_regression"] == 8
