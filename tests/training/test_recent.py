import torch
from torch import nn

from detcenter.training import RecentFeatures


class Mean(nn.Module):
    def forward(self, features, labels):
        return features.mean()


def called(loss, *sizes):
    for k, size in enumerate(sizes):
        loss(torch.full((size, 2), float(k), requires_grad=True), torch.full((size,), k))


def test_the_latest_calls_are_kept_as_far_as_they_are_wanted():
    loss, other = Mean(), Mean()
    kept, none = RecentFeatures([loss, other], most=5).pairs
    called(loss, 4, 3, 2)
    assert [y.tolist() for _, y in kept] == [[1, 1, 1], [2, 2]]
    assert [x[0, 0].item() for x, _ in kept] == [1, 2] and not kept[0][0].requires_grad
    assert not none


def test_nothing_is_kept_afterwards():
    loss = Mean()
    recent = RecentFeatures([loss])
    called(loss, 1)
    recent.close()
    called(loss, 1)
    assert len(recent.pairs[0]) == 1 and not loss._forward_hooks


def test_a_checkpoint_can_hold_them():
    loss = Mean()
    first, second = RecentFeatures([loss]), RecentFeatures([Mean()])
    called(loss, 2, 1)
    second.load_state_dict(first.state_dict(), torch.device("cpu"))
    assert all(
        torch.equal(a, b)
        for kept, again in zip(first.pairs[0], second.pairs[0], strict=True)
        for a, b in zip(kept, again, strict=True)
    )
    assert [len(y) for _, y in second.pairs[0]] == [2, 1]


def test_they_go_on_on_another_device():
    """As a run on a GPU does from a checkpoint, which is read onto the CPU."""
    loss, again = Mean(), Mean()
    first, second = RecentFeatures([loss]), RecentFeatures([again])
    called(loss, 2)
    second.load_state_dict(first.state_dict(), torch.device("meta"))
    again(torch.ones(1, 2, device="meta"), torch.ones(1, dtype=torch.long, device="meta"))
    features, labels = (torch.cat(column) for column in zip(*second.pairs[0], strict=True))
    assert features.shape == (3, 2) and labels.shape == (3,)
