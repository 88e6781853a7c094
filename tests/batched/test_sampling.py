"""Which anchors are drawn, and what is made of them, against torchvision's own loop."""

from collections import Counter

import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead

from detcenter.adoption import adopt
from detcenter.batched.sampling import RoISampling, Sampling, balanced, places, rpn_losses


def by_image(labels, keys, size, fraction):
    """As torchvision's sampler, with the order of the keys in the place of its permutations."""
    found = []
    for of_image, key in zip(labels, keys, strict=True):
        positive, negative = (of_image >= 1).nonzero()[:, 0], (of_image == 0).nonzero()[:, 0]
        num_pos = min(len(positive), int(size * fraction))
        num_neg = min(len(negative), size - num_pos)
        masks = torch.zeros(2, len(of_image), dtype=torch.bool)
        masks[0, positive[key[positive].argsort()[:num_pos]]] = True
        masks[1, negative[key[negative].argsort()[:num_neg]]] = True
        found.append(masks)
    return torch.stack(found, 1).unbind()


LEAST = {"many of both": (-1, 4), "few positives": (-3, 2), "no negatives": (1, 3), "none": (-2, 0)}


@pytest.mark.parametrize("least", LEAST)
@pytest.mark.parametrize(("size", "fraction"), [(8, 0.5), (9, 0.25), (100, 0.5), (4, 0.0)])
def test_with_the_same_draws_the_samples_are_torchvisions(least, size, fraction):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(*LEAST[least], (6, 30), generator=generator)
    labels[2] = 0  # an image without objects
    keys = torch.rand(6, 30, generator=generator)
    expected = by_image(labels, keys, size, fraction)
    found = balanced(labels, keys, size, int(size * fraction))
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


def test_every_subset_is_drawn_equally_often():
    """Of 6 positives 2, of 4 negatives 2: 15 and 6 subsets. With 89 degrees of freedom 1 in 1,000
    chi-squares lies above 135.98 (and the seed is fixed)."""
    times = 9000
    labels = torch.tensor([3, 0, 1, -1, 1, 0, 2, 0, 1, 0, 1]).expand(times, -1)
    keys = torch.rand(times, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    positive, negative = balanced(labels, keys, 4, 2)
    assert (positive.sum(1) == 2).all() and (negative.sum(1) == 2).all()
    seen = Counter(map(tuple, (positive | negative).tolist()))
    assert len(seen) == 90
    expected = times / 90
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 135.98


class Elsewhere(torch.Tensor):
    """Says that it lies on a device, as do all tensors that are made of it."""

    is_cpu = False


def test_elsewhere_the_sampler_draws_for_all_images_at_once():
    sampler = BalancedPositiveNegativeSampler(8, 0.5)
    adopt(sampler, Sampling)
    labels = [torch.tensor([1, 0, -1, 2] * n).as_subclass(Elsewhere) for n in (2, 10, 1)]
    for _ in range(5):
        positive, negative = sampler(labels)
        assert [len(x) for x in positive] == [len(x) for x in negative] == [8, 40, 4]
        for of_image, p, n in zip(labels, positive, negative, strict=True):
            assert p.dtype == n.dtype == torch.uint8
            assert (of_image[p.bool()] > 0).all() and (of_image[n.bool()] == 0).all()
        assert [int(x.sum()) for x in positive] == [4, 4, 2]
        assert [int(x.sum()) for x in negative] == [2, 4, 1]


def test_on_a_cpu_a_seed_draws_what_it_drew():
    labels = [torch.randint(-1, 3, (50,), generator=torch.Generator().manual_seed(0))] * 2
    sampler = BalancedPositiveNegativeSampler(8, 0.5)
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append([*sampler(labels)[0], *sampler(labels)[1]])
        adopt(sampler, Sampling)
    assert all(torch.equal(x, y) for x, y in zip(*drawn, strict=True))


def test_the_losses_of_a_region_proposal_network_are_torchvisions():
    top = {"pre_nms_top_n": {}, "post_nms_top_n": {}}
    network = RegionProposalNetwork(
        AnchorGenerator(), RPNHead(1, 3), 0.7, 0.3, 16, 0.5, **top, nms_thresh=0.7
    )
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 2, (3, 40), generator=generator).float()
    labels[1] = 0  # no objects: the targets are the logarithm of 0
    targets = torch.randn(3, 40, 4, generator=generator)
    targets[1] = -torch.inf
    masks = balanced(labels, torch.rand(3, 40, generator=generator), 16, 8)
    network.fg_bg_sampler = lambda _: tuple(list(x.byte()) for x in masks)
    outputs = [torch.randn(120, n, generator=generator).mul_(3).requires_grad_() for n in (1, 4)]
    expected = network.compute_loss(*outputs, list(labels), list(targets))
    flat = labels.flatten(), targets.flatten(0, 1), *(x.flatten() for x in masks)
    found = rpn_losses(*outputs, *flat)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    gradients = [torch.autograd.grad(x[0] + 2 * x[1], outputs) for x in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("share", [0.3, 0.0, 1.0])
def test_the_places_of_what_was_drawn(share):
    drawn = torch.rand(4, 20, generator=torch.Generator().manual_seed(0)) < share
    drawn[2] = False
    expected = [torch.where(of_image)[0] for of_image in drawn]
    assert all(torch.equal(x, y) for x, y in zip(places(drawn), expected, strict=True))


def test_the_heads_find_the_places_of_a_sampler_of_ones_own():
    heads = RoIHeads(None, None, None, 0.5, 0.5, 4, 0.5, None, 0.05, 0.5, 10)
    heads.fg_bg_sampler = lambda labels: ([x > 5 for x in labels], [x == 5 for x in labels])
    labels = [torch.tensor([5, 1, 9]), torch.tensor([1, 1, 7, 5, 2])]
    expected = heads.subsample(labels)
    adopt(heads, RoISampling)
    found = heads.subsample([x.as_subclass(Elsewhere) for x in labels])
    assert [x.tolist() for x in found] == [x.tolist() for x in expected] == [[0, 2], [2, 3]]
