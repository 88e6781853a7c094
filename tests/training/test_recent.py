import torch
from torch import nn

from detcenter.training import recent_features


class Mean(nn.Module):
    def forward(self, features, labels):
        return features.mean()


def called(loss, *sizes):
    for k, size in enumerate(sizes):
        loss(torch.full((size, 2), float(k), requires_grad=True), torch.full((size,), k))


def test_the_latest_calls_are_kept_as_far_as_they_are_wanted():
    loss, other = Mean(), Mean()
    with recent_features([loss, other], most=5) as (kept, none):
        called(loss, 4, 3, 2)
    assert [y.tolist() for _, y in kept] == [[1, 1, 1], [2, 2]]
    assert [x[0, 0].item() for x, _ in kept] == [1, 2] and not kept[0][0].requires_grad
    assert not none


def test_nothing_is_kept_afterwards():
    loss = Mean()
    with recent_features([loss]) as (kept,):
        called(loss, 1)
    called(loss, 1)
    assert len(kept) == 1 and not loss._forward_hooks
