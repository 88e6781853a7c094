"""N processes give what one gives with the joined batch: on CPU, over gloo."""

import copy

import pytest
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from detcenter import CenterLoss, attach
from detcenter.losses import held_centers
from detcenter.models import build_model, set_losses_over_processes

CLASSES, DIM = 4, 3
# Positives by process; the second of two, and the third of three, has none.
COUNTS = {2: (7, 0), 3: (5, 2, 0)}
IMAGES = {2: (2, 1), 3: (1, 2, 1)}


def features_of(count, weighted):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(count, DIM, generator=generator)
    labels = torch.randint(1, CLASSES, (count,), generator=generator)
    return features, labels, torch.rand(count, generator=generator) if weighted else None


def center_steps(parts, weighted, normalize, passes=1):
    """Three steps on ``parts`` of the features: losses, gradients and centers."""
    loss = CenterLoss(CLASSES, DIM, normalize=normalize)
    found = []
    for step in range(3):
        for number, part in enumerate(parts):
            x, y, w = part
            x = (x + step).requires_grad_()
            with held_centers(loss, number < passes - 1):
                value = loss(x, y, w)
            (gradient,) = torch.autograd.grad(value, x)
            found.append((value.detach(), gradient))
    return found, loss.centers


def cut(columns, sizes):
    pieces = [x.split(list(sizes)) if x is not None else [None] * len(sizes) for x in columns]
    return list(zip(*pieces, strict=True))


def small_ssd(features, **options):
    torch.manual_seed(0)
    model = build_model(
        "ssd",
        CLASSES,
        backbone="shufflenet_v2_x0_5",
        image_size=64,
        strides=[8, 16],
        anchor_scales=[[0.25], [0.4]],
        frozen_batch_norm=True,
    )
    attach(model, weight=0.7, features=features, **options)
    return set_losses_over_processes(model).train()


def batch_of(images):
    generator = torch.Generator().manual_seed(5)
    x = list(torch.rand(images, 3, 64, 64, generator=generator))
    targets = []
    for n in range(images):
        corners, sides = torch.rand(2, n % 3, 2, generator=generator)  # the first has no object
        boxes = torch.cat([30 * corners, 30 * corners + 10 + 20 * sides], 1)
        targets.append({"boxes": boxes, "labels": torch.arange(n % 3) + 1})
    return x, targets


def detector_steps(model, x, targets):
    """In float64: in float32 rounding alone is as large as an error might be."""
    model, x = model.double(), [image.double() for image in x]
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(2):
        losses = model(x, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return {k: v.detach() for k, v in losses.items()}, gradients


def centers_in(model):
    return [x for name, x in model.named_buffers() if name.endswith("centers")]


SETTINGS = [(False, False), (True, True)]  # weighted, normalize
MODELS = [("cell", {}), ("embedding", {"per_object": True, "warmup_steps": 3})]


def in_processes(work, count, folder):
    """`work(rank, count, folder)`, in forked processes, which import nothing anew."""
    torch.multiprocessing.start_processes(work, (count, str(folder)), count, start_method="fork")


def work(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    results = []
    for weighted, normalize in SETTINGS:
        mine = cut(features_of(sum(COUNTS[world]), weighted), COUNTS[world])[rank]
        results.append(center_steps([mine], weighted, normalize))
    for features, options in MODELS:
        x, targets = batch_of(sum(IMAGES[world]))
        first = sum(IMAGES[world][:rank])
        mine = slice(first, first + IMAGES[world][rank])
        # Of the right dtype from the start: its buckets of gradients are made here.
        model = DistributedDataParallel(small_ssd(features, **options).double())
        results.append((*detector_steps(model, x[mine], targets[mine]), centers_in(model.module)))
    torch.save(results, f"{folder}/{rank}.pth")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def world(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    in_processes(work, request.param, folder)
    ranks = range(request.param)
    return request.param, [torch.load(folder / f"{rank}.pth") for rank in ranks]


@pytest.mark.parametrize("setting", range(len(SETTINGS)))
def test_center_loss_gradient_and_centers_are_those_of_the_joined_batch(world, setting):
    count, ranks = world
    weighted, normalize = SETTINGS[setting]
    whole = features_of(sum(COUNTS[count]), weighted)
    expected, centers = center_steps([whole], weighted, normalize)
    for rank in ranks:
        torch.testing.assert_close(rank[setting][1], centers, atol=1e-5, rtol=1e-5)
    for step, (loss, gradient) in enumerate(expected):
        mine = [rank[setting][0][step] for rank in ranks]
        torch.testing.assert_close(torch.stack([x for x, _ in mine]).mean(), loss)
        # DistributedDataParallel divides by the number of processes
        torch.testing.assert_close(torch.cat([g for _, g in mine]) / count, gradient)


@pytest.mark.parametrize("setting", range(len(MODELS)))
def test_a_detector_learns_what_one_process_learns(world, setting):
    count, ranks = world
    features, options = MODELS[setting]
    model = small_ssd(features, **options)
    losses, gradients = detector_steps(model, *batch_of(sum(IMAGES[count])))
    found = [rank[len(SETTINGS) + setting] for rank in ranks]
    assert losses["loss_center"] > 0 and losses["classification"] > 0
    for name, loss in losses.items():
        mean = torch.stack([mine[0][name] for mine in found]).mean()
        torch.testing.assert_close(mean, loss, atol=1e-9, rtol=1e-9)
    for mine in found:
        for got, expected in zip(mine[1], gradients, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)
        for got, expected in zip(mine[2], centers_in(model), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


def test_passes_before_a_step_move_the_centers_once_by_all_of_them():
    whole = features_of(9, weighted=False)
    parts = cut(whole, (4, 0, 5))
    _, centers = center_steps([whole], False, False)
    _, got = center_steps(parts, False, False, passes=3)
    torch.testing.assert_close(got, centers)


def test_a_ramp_counts_steps_and_not_passes():
    model = small_ssd("embedding", warmup_steps=4)
    x, targets = batch_of(3)
    for _ in range(2):
        with held_centers(model):
            model(x, targets)
        model(x, targets)
    assert model.box_terms["center"].step == 2
    twin = copy.deepcopy(model)
    assert not twin.box_terms["center"].held


# Who takes part


def alone(rank, world, folder):
    """One process takes losses by itself: if it waited for the other, it would wait for ever."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    model = small_ssd("embedding", per_object=True)
    group, _ = dist.new_subgroups(group_size=1)
    mine = small_ssd("cell", process_group=group)
    mine.multibox.over_processes = False
    loss = CenterLoss(CLASSES, DIM, process_group=group)
    if rank == 0:
        x, targets = batch_of(3)
        with torch.no_grad():
            no_grad = sum(model(x, targets).values())
        model.eval()
        model.training = True
        container = sum(model(x, targets).values()).detach()
        own = sum(mine(x, targets).values()).detach()
        loss(torch.ones(2, DIM), torch.tensor([1, 2]))
        torch.save((no_grad, container, own, centers_in(mine), loss.centers), f"{folder}/0.pth")
    dist.barrier()
    dist.destroy_process_group()


def test_validation_losses_and_groups_of_ones_own_wait_for_no_other_process(tmp_path):
    in_processes(alone, 2, tmp_path)
    no_grad, container, own, centers, alone_centers = torch.load(tmp_path / "0.pth")
    x, targets = batch_of(3)
    model = small_ssd("embedding", per_object=True)
    with torch.no_grad():
        expected = sum(model(x, targets).values())
    torch.testing.assert_close(no_grad, expected)
    torch.testing.assert_close(container, expected)
    model = small_ssd("cell")
    torch.testing.assert_close(own, sum(model(x, targets).values()).detach())
    for got, one in zip(centers, centers_in(model), strict=True):
        torch.testing.assert_close(got, one)
    loss = CenterLoss(CLASSES, DIM)
    loss(torch.ones(2, DIM), torch.tensor([1, 2]))
    torch.testing.assert_close(alone_centers, loss.centers)
