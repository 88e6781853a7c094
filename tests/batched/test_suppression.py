"""What is kept is what torchvision keeps, candidate by candidate."""

import pytest
import torch
from torchvision.ops import batched_nms, nms

from detcenter.batched import greedy, suppression
from detcenter.batched.suppression import suppressed, top_candidates


def drawn(seed):
    """Boxes that overlap more or less, and scores of which no two are equal."""
    generator = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    images, boxes, classes = number(1, 4), number(1, 500), number(2, 12)
    corners = torch.rand(images, boxes, 2, generator=generator) * number(20, 400)
    sides = torch.rand(images, boxes, 2, generator=generator) * number(5, 100)
    count = images * boxes * classes
    scores = (torch.randperm(count, generator=generator) + 1.0).view(images, boxes, classes) / count
    scores[..., 0] = 0  # background
    if seed % 5 == 0:
        scores[0] = 0  # an image without candidates
    settings = {
        "score_threshold": number(0, 9) / 10,
        "iou_threshold": number(1, 10) / 10,
        "limit": number(1, 300),
        "most_per_class": [None, 20, 400][seed % 3],
    }
    return torch.cat([corners, corners + sides], 2), scores, settings


def by_loop(boxes, scores, score_threshold, iou_threshold, limit, most_per_class):
    """As torchvision's SSD does it for one image."""
    parts = []
    for label in range(scores.shape[1]):
        (passing,) = (scores[:, label] > score_threshold).nonzero(as_tuple=True)
        most = len(passing) if most_per_class is None else min(most_per_class, len(passing))
        values, order = scores[passing, label].topk(most)
        parts.append((boxes[passing[order]], values, torch.full((most,), label)))
    boxes, scores, labels = map(torch.cat, zip(*parts, strict=True))
    keep = batched_nms(boxes, scores, labels, iou_threshold)[:limit]
    return boxes[keep], scores[keep], labels[keep]


@pytest.mark.parametrize("way", ["kernel", "blocks"])
def test_drawn_batches_equal_a_loop(way, monkeypatch):
    if way == "blocks":  # as on CUDA; in blocks so small that there are several
        monkeypatch.setattr(greedy, "_by_kernel", lambda *_: None)
        monkeypatch.setattr(greedy, "_BLOCK", 32)
        monkeypatch.setattr(suppression, "_TURNS", 2)
    for seed in range(60):
        boxes, scores, settings = drawn(seed)
        found = suppressed(boxes, scores, **settings)
        for image, detections in enumerate(found):
            expected = by_loop(boxes[image], scores[image], **settings)
            for a, b in zip(detections, expected, strict=True):
                assert torch.equal(a, b), (seed, image)


def test_what_float64_cannot_decide_is_decided_as_by_torchvision(monkeypatch):
    """Pairs whose IoU is the threshold to within rounding, as among many candidates."""
    monkeypatch.setitem(suppression._FEW, "cpu", 0)
    generator = torch.Generator().manual_seed(0)
    sides = 10 + 90 * torch.rand(300, 1, generator=generator)
    shift = sides * torch.linspace(0.2, 0.4, 300).unsqueeze(1)
    first = torch.cat([torch.zeros(300, 2), sides, sides], 1)
    second = first + torch.cat([shift, torch.zeros(300, 1)], 1).repeat(1, 2)
    for a, b in zip(first, second, strict=True):
        pair = torch.stack([a, b])
        area = (a[2] - a[0]) * (a[3] - a[1])
        shared = (a[2] - b[0]).clamp(min=0) * (a[3] - b[1])
        iou = shared / ((area + (b[2] - b[0]) * (b[3] - b[1])) - shared)
        for threshold in (float(iou), float(iou) - 1e-9, float(iou) + 1e-9):
            kept = nms(pair, torch.tensor([2.0, 1.0]), threshold)
            scores = torch.tensor([[[0.0, 0.9], [0.0, 0.8]]])
            settings = {"score_threshold": 0.1, "iou_threshold": threshold, "limit": 5}
            (found,) = suppressed(pair[None], scores, **settings)
            assert len(found.boxes) == len(kept)


@pytest.mark.parametrize("way", ["kernel", "blocks"])
@pytest.mark.parametrize("share", [0.01, 0.6])
def test_scores_that_are_no_numbers_are_no_candidates(way, share, monkeypatch):
    """As in torchvision, where they are not above any threshold; nor do they keep anything busy."""
    if way == "blocks":
        monkeypatch.setattr(greedy, "_by_kernel", lambda *_: None)
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 300, 2, generator=generator) * 200
    boxes = torch.cat([corners, corners + 40], 2)
    scores = (torch.randperm(2 * 300 * 4, generator=generator) + 1.0).view(2, 300, 4) / 2400
    scores[torch.rand(scores.shape, generator=generator) < share] = torch.nan
    settings = {"score_threshold": 0.3, "iou_threshold": 0.4, "limit": 30, "most_per_class": 50}
    for image, found in enumerate(suppressed(boxes, scores, **settings)):
        for a, b in zip(found, by_loop(boxes[image], scores[image], **settings), strict=True):
            assert len(a) and torch.equal(a, b)


def test_long_chains_settle():
    """Every box overlaps with its neighbours only, so that each second one is kept."""
    start = torch.arange(200.0) * 4
    boxes = torch.stack([start, torch.zeros(200), start + 10, torch.full((200,), 10.0)], 1)
    scores = torch.linspace(1, 0.5, 200).view(1, 200, 1)
    labels = torch.ones(1, 200, dtype=torch.int64)
    settings = {"score_threshold": 0.0, "iou_threshold": 0.3, "limit": 200}
    (found,) = suppressed(boxes[None], scores, labels, **settings)
    assert torch.equal(found.boxes, boxes[::2])


@pytest.mark.parametrize("none", [{"limit": 0}, {"most_per_class": 0}])
def test_nothing_may_be_kept(none):
    boxes, scores, settings = drawn(1)
    for found in suppressed(boxes, scores, **settings | none):
        assert found.boxes.shape == (0, 4) and len(found.scores) == len(found.labels) == 0


def test_the_best_of_several_rows():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.rand(3, 400, generator=generator)
        threshold = [0.3, 0.97, 0.999, 1.0][seed % 4]
        values, places = top_candidates(scores, threshold, 50)
        for row in range(3):
            (passing,) = (scores[row] > threshold).nonzero(as_tuple=True)
            expected, order = scores[row, passing].topk(min(50, len(passing)))
            assert torch.equal(values[row, : len(expected)], expected)
            assert torch.equal(places[row, : len(expected)], passing[order])
            assert (values[row, len(expected) :] == -torch.inf).all()


@pytest.mark.parametrize("threshold", [0.0, 0.97])
def test_what_is_not_a_number_takes_no_place(threshold):
    scores = torch.rand(2, 400, generator=torch.Generator().manual_seed(0))
    scores[:, ::2] = torch.nan
    values, places = top_candidates(scores, threshold, 50)
    for row in range(2):
        (passing,) = (scores[row] > threshold).nonzero(as_tuple=True)
        expected, order = scores[row, passing].topk(min(50, len(passing)))
        assert torch.equal(values[row, : len(expected)], expected)
        assert torch.equal(places[row, : len(expected)], passing[order])
